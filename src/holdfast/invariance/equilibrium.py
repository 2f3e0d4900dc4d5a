"""Equilibria of a closed loop: where they are, proved to exist and to be unique, and the largest ellipsoid of contraction.

Search is plain floating point (Newton, Lyapunov equations); what is returned as proved is. Krawczyk, Newton-Algorithmen zur Bestimmung
von Nullstellen mit Fehlerschranken, Computing 4, 1969; Neumaier, Interval Methods for Systems of Equations, 1990, theorem 5.1.8.
"""

from __future__ import annotations

from fractions import Fraction

import flint
import numpy as np
import scipy.linalg
import scipy.optimize

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.invariance.contraction import Contraction, Jacobians, contraction
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64
from holdfast.transforms import derivative, evaluate

Shape = tuple[tuple[Fraction, ...], ...]
SHIFTS = (0.6, 0.2)  # of the decay of the linearisation: how fast trajectories approach in the norm looked for
HALVINGS = 16


class Linearisation:
    """Plain evaluation of the right side and of its Jacobian by the states, at the middle of disturbances and parameters."""

    def __init__(self, loop: ClosedLoop):
        self._loop, self._jacobian = loop, derivative(loop.dynamics)
        self._others = 0.5 * (loop.others.lower + loop.others.upper)

    def flow(self, x: np.ndarray) -> np.ndarray:
        """f at points (K, n)."""
        return self._run(self._loop.dynamics, x)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """(n, n) at one point."""
        return self.jacobians(x[None])[0]

    def jacobians(self, x: np.ndarray) -> np.ndarray:
        """(K, n, n) at points (K, n)."""
        n = len(self._loop.states)
        return self._run(self._jacobian, x).reshape(len(x), n, -1)[:, :, :n]

    def _run(self, model: object, x: np.ndarray) -> np.ndarray:
        v = np.concatenate([x, np.broadcast_to(self._others, (len(x), len(self._others)))], axis=1)
        with np.errstate(all="ignore"):
            return evaluate(model.graph, model.parameters, [v])[model.graph.outputs[0]]  # type: ignore[attr-defined]


def newton(loop: ClosedLoop, start: np.ndarray, steps: int = 50) -> np.ndarray | None:
    """A point where f (maps: f - x) vanishes up to rounding, found from ``start`` by damped Newton steps; None: not found."""
    line = Linearisation(loop)
    x = np.array(start, np.float64)

    def residual(point: np.ndarray) -> np.ndarray:
        f = line.flow(point[None])[0]
        return f - point if loop.kind == "map" else f

    r = residual(x)
    for _ in range(steps):
        J = line.jacobian(x) - (np.eye(len(x)) if loop.kind == "map" else 0.0)
        if not np.isfinite(J).all():
            return None
        move = np.linalg.lstsq(J, -r, rcond=None)[0]
        size = 1.0
        while size > 1e-4:
            candidate = residual(x + size * move)
            if np.linalg.norm(candidate) < np.linalg.norm(r) or np.linalg.norm(candidate) < 1e-13:
                break
            size *= 0.5
        if size <= 1e-4:
            break
        x, r = x + size * move, candidate
        if np.linalg.norm(size * move) < 1e-15 * (1 + np.linalg.norm(x)):
            break
    return x if np.linalg.norm(r) < 1e-8 * (1 + np.linalg.norm(x)) else None


def krawczyk(loop: ClosedLoop, center: np.ndarray, half: np.ndarray) -> np.ndarray | None:
    """Half-widths of a box around ``center`` in which there is exactly one equilibrium (for every value of the parameters), or None.

    K = c - C g(c) + (I - C G)(X - c) in the interior of X, G a hull of the Jacobian of g (f, or f - x) on X.
    """
    n = len(center)
    low, high = (ends[0] for ends in Jacobians(loop).on((center - half)[None], (center + half)[None]))
    shift = np.eye(n) if loop.kind == "map" else np.zeros((n, n))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    try:
        C = np.linalg.inv(0.5 * (low + high) - shift)
    except np.linalg.LinAlgError:
        return None
    others = loop.others
    ends = np.concatenate([center, others.lower])[None], np.concatenate([center, others.upper])[None]
    below, above = bounds_of_rows(flat_problem(loop.dynamics, FLOAT64), *ends, np.eye(n), "backward")
    g = flint.arb_mat(n, 1, [flint.arb(a).union(flint.arb(b)) for a, b in zip(below[0], above[0], strict=True)])
    if loop.kind == "map":
        g = g - flint.arb_mat(n, 1, center.tolist())
    G = flint.arb_mat(n, n, [flint.arb(a).union(flint.arb(b)) for a, b in zip(low.ravel(), high.ravel(), strict=True)])
    G = G - flint.arb_mat(n, n, shift.ravel().tolist())
    c = flint.arb_mat(n, n, C.ravel().tolist())
    x = flint.arb_mat(n, 1, [flint.arb(0, float(h)) for h in half])
    one = flint.arb_mat(n, n, np.eye(n).ravel().tolist())
    image = (one - c * G) * x - c * g
    reach = np.array([float(abs(image[i, 0]).upper()) for i in range(n)])
    return np.nextafter(reach, np.inf) if (reach < half).all() else None


def shapes(loop: ClosedLoop, center: np.ndarray, scales: np.ndarray) -> list[Shape]:
    """Candidates for P: solutions of Lyapunov equations of the linearisation, exact symmetric matrices. Empty: it is not stable.

    (A + s I)' P + P (A + s I) = -diag(scales^-2): with s close to the decay of A the P-norm shrinks as fast as solutions do in the end.
    """
    A = Linearisation(loop).jacobian(center)
    if not np.isfinite(A).all():
        return []
    values = np.linalg.eigvals(A)
    slowest = -values.real.max() if loop.kind == "ode" else 1 - abs(values).max()
    if slowest <= 0:
        return []
    found = []
    for share in SHIFTS:
        if loop.kind == "ode":
            P = scipy.linalg.solve_continuous_lyapunov((A + share * slowest * np.eye(len(A))).T, -np.diag(scales**-2.0))
        else:
            P = scipy.linalg.solve_discrete_lyapunov((A / (1 - share * slowest)).T, np.diag(scales**-2.0))
        found.append(exact_symmetric(P / np.abs(P).max()))
    return found


def exact_symmetric(P: np.ndarray) -> Shape:
    """The float64 matrix, symmetric, as exact numbers."""
    n = len(P)
    return tuple(tuple(Fraction(float(P[max(i, j), min(i, j)])) for j in range(n)) for i in range(n))


def common_shape(loop: ClosedLoop, J: np.ndarray, first: Shape, rounds: int = 60) -> Shape | None:
    """A P with P J_k + J_k' P < 0 (maps: J_k' P J_k < P) for all the matrices J (K, n, n) given, or None.

    Kelley, The cutting-plane method for solving convex programs, 1960: linear programs over the entries of P in coordinates in
    which ``first`` is the identity; each round adds the eigenvectors that violate the inequalities most.
    """
    n = J.shape[1]
    root = np.linalg.cholesky(np.array([[float(v) for v in entries] for entries in first])).T
    A = root @ J @ np.linalg.inv(root)
    pairs = [(i, k) for i in range(n) for k in range(i, n)]

    def terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:  # u' P v as a linear form of the entries, (K, entries)
        return np.stack([u[:, i] * v[:, k] + (u[:, k] * v[:, i] if i != k else 0.0) for i, k in pairs], axis=1)

    rows: list[np.ndarray] = []
    rates = abs(A).max((1, 2))
    P = np.eye(n)
    best, found = -np.inf, None
    for _ in range(rounds):
        if loop.kind == "ode":
            values, vectors = np.linalg.eigh((P @ A + A.transpose(0, 2, 1) @ P) / rates[:, None, None])
        else:
            values, vectors = np.linalg.eigh(A.transpose(0, 2, 1) @ P @ A - P)
        least = float(np.linalg.eigvalsh(P)[0])
        margin = min(float(-values.max()), least)
        if margin > best:
            best, found = margin, P
        worst = np.argsort(-values[:, -1])[: 4 * n]
        v = vectors[worst, :, -1]
        moved = np.einsum("kij,kj->ki", A[worst], v)
        if loop.kind == "ode":
            cut = 2 * terms(v, moved) / rates[worst, None]
        else:
            cut = terms(moved, moved) - terms(v, v)
        rows += [np.append(c, 1.0) for c in cut]  # form + margin <= 0
        low = np.linalg.eigh(P)[1][:, :1].T
        rows += [np.append(c, 1.0) for c in -terms(low, low)]
        trace = np.array([float(i == k) for i, k in pairs] + [0.0])
        result = scipy.optimize.linprog(
            np.append(np.zeros(len(pairs)), -1.0), np.array(rows), np.zeros(len(rows)), trace[None], [float(n)],
            bounds=[(-n, n)] * len(pairs) + [(None, 1.0)], method="highs",
        )  # fmt: skip
        if result.x is None or result.x[-1] <= max(1.2 * best, 0.0) + 1e-12:
            break
        P = np.zeros((n, n))
        for value, (i, k) in zip(result.x, pairs, strict=False):
            P[i, k] = P[k, i] = value
    if found is None or best <= 0:
        return None
    P = root.T @ found @ root
    return exact_symmetric(P / abs(P).max())


def largest_contraction(
    loop: ClosedLoop, center: np.ndarray, reach: np.ndarray, *, pieces: int = 150, rounds: int = 0, seed: int = 0
) -> Contraction | None:
    """The largest ellipsoid found on which the loop provably contracts.

    ``reach``: half-widths (n,) that it is not to exceed. Shapes come from the linearisation and then from Jacobians sampled on the
    ellipsoid proved last, enlarged; sizes from trying, each try being a proof with at most so many ``pieces``.
    """
    jacobians, line = Jacobians(loop), Linearisation(loop)
    rng = np.random.default_rng(seed)
    best: Contraction | None = None
    for shape in shapes(loop, center, reach):
        best = _grown(loop, center, shape, reach, best, jacobians, pieces)
    for _ in range(rounds if best is not None else 0):
        assert best is not None
        plain = np.array([[float(v) for v in entries] for entries in best.P])
        half = np.linalg.inv(np.linalg.cholesky(plain)).T * np.sqrt(float(best.level))
        improved = best
        for factor in (10.0, 3.0):
            u = rng.normal(size=(400, len(center)))
            u *= (rng.random(400) ** 0.5 / np.linalg.norm(u, axis=1))[:, None]
            points = center + factor * u @ half.T
            points = points[(abs(points - center) <= reach).all(1)]
            common = common_shape(loop, line.jacobians(np.concatenate([center[None], points])), best.P)
            if common is not None:
                improved = _grown(loop, center, common, reach, improved, jacobians, pieces) or improved
                break
        if _volume(improved) < 1.5 * _volume(best):
            return improved
        best = improved
    return best


def _grown(
    loop: ClosedLoop, center: np.ndarray, P: Shape, reach: np.ndarray, best: Contraction | None, jacobians: Jacobians, pieces: int
) -> Contraction | None:  # fmt: skip
    """The largest ellipsoid of shape P, if it is larger than ``best``."""
    plain = np.array([[float(v) for v in entries] for entries in P])
    profile = np.sqrt(np.diag(np.linalg.inv(plain)))
    least = _volume(best) ** (1 / len(P)) if best is not None else 0.0
    unit = float(np.linalg.det(plain)) ** (-0.5 / len(P))
    small, top, size = 0.0, np.inf, float((reach / profile).min())
    largest = size
    for _ in range(HALVINGS):
        if size * unit <= least:
            break
        proved = contraction(loop, center, P, Fraction(size) ** 2, jacobians, pieces)
        if proved is not None:
            small, best = size, proved
            least = size * unit
            if size == largest:
                break
        else:
            top = size
        if small and top < 1.4 * small:
            break
        size = 0.5 * (small + top) if small else 0.25 * size
    return best


def _volume(found: Contraction) -> float:
    plain = np.array([[float(v) for v in entries] for entries in found.P])
    return float(found.level) ** (len(plain) / 2) / float(np.sqrt(np.linalg.det(plain)))
