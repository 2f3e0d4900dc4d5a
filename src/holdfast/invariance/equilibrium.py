"""Equilibria of a closed loop: where they are, proved to exist and to be unique, and the largest ellipsoid of contraction.

Search is plain floating point (Newton, Lyapunov equations); what is returned as proved is. Krawczyk, Newton-Algorithmen zur Bestimmung
von Nullstellen mit Fehlerschranken, Computing 4, 1969; Neumaier, Interval Methods for Systems of Equations, 1990, theorem 5.1.8.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import flint
import numpy as np

from holdfast.bounds.bounder import bounds_of_rows, flat_problem
from holdfast.invariance.contraction import Contraction, Jacobians, contraction
from holdfast.loop import ClosedLoop
from holdfast.rigor import FLOAT64
from holdfast.spec.region import Box
from holdfast.transforms import derivative, evaluate

Shape = tuple[tuple[Fraction, ...], ...]
SHIFTS = (0.6, 0.2)  # of the decay of the linearisation: how fast trajectories approach in the norm looked for
LEAST = 0.2  # of the decay of the linearisation: what is asked for at samples
FAR = np.geomspace(1e-5, 1.0, 24)  # sizes of ellipsoids tried, in units of the reach; and of the one found so far
NEAR = np.array([0.35, 0.7, 1.0, 1.15, 1.4])
SMALL = (1e-2, 3e-3, 1e-3, 1e-4, 1e-5)  # of the reach
FEW = 200  # pieces for these
STARTS = 3  # shapes to start from
FINE = np.linspace(0.04, 1.0, 25)
SHARES = (0.95, 0.88, 0.8, 0.7, 0.55, 0.35, 0.15, 0.03)


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
            out = evaluate(model.graph, model.parameters, [v])[model.graph.outputs[0]]  # type: ignore[attr-defined]
        shape = model.graph[model.graph.outputs[0]].shape  # type: ignore[attr-defined]
        return np.broadcast_to(out, (len(x), *shape))  # what is constant comes without the axis of points


def newton(
    loop: ClosedLoop, start: np.ndarray, steps: int = 50, line: Linearisation | None = None
) -> np.ndarray | None:
    """A point where f (maps: f - x) vanishes up to rounding, found from ``start`` by damped Newton steps; None: not found."""
    line = line or Linearisation(loop)
    x = np.array(start, np.float64)

    def residual(point: np.ndarray) -> np.ndarray:
        f = line.flow(point[None])[0]
        return f - point if loop.kind == "map" else f

    r = residual(x)
    for _ in range(steps):
        J = line.jacobian(x) - (np.eye(len(x)) if loop.kind == "map" else 0.0)
        if not (np.isfinite(J).all() and np.isfinite(r).all()):
            return None
        try:
            move = np.linalg.lstsq(J, -r, rcond=None)[0]
        except np.linalg.LinAlgError:  # its singular values did not converge
            return None
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


def krawczyk(loop: ClosedLoop, center: np.ndarray, half: np.ndarray, others: Box | None = None) -> np.ndarray | None:
    """Half-widths of a box around ``center`` in which there is exactly one equilibrium (for every value of disturbances and parameters
    in ``others``, by default all of them), or None.

    K = c - C g(c) + (I - C G)(X - c) in the interior of X, G a hull of the Jacobian of g (f, or f - x) on X.
    """
    n = len(center)
    around = np.nextafter(center - half, -np.inf), np.nextafter(center + half, np.inf)  # no less than X
    low, high = (ends[0] for ends in Jacobians(loop, others).on(around[0][None], around[1][None]))
    shift = np.eye(n) if loop.kind == "map" else np.zeros((n, n))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    try:
        C = np.linalg.inv(0.5 * (low + high) - shift)
    except np.linalg.LinAlgError:
        return None
    others = others or loop.others
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
    import scipy.linalg

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


def largest_contraction(
    loop: ClosedLoop, center: np.ndarray, reach: np.ndarray, *, pieces: int = 1000, tries: int = 240, seed: int = 0,
    expired: Callable[[], bool] = lambda: False,
) -> Contraction | None:  # fmt: skip
    """The largest ellipsoid found on which the loop provably contracts.

    ``reach``: half-widths (n,) that it is not to exceed. The shape is looked for by random steps (Rechenberg's (1+1) strategy) from
    the best one that the linearisation suggests, judged by sampled Jacobians; then the largest size that has a proof of at most so
    many ``pieces`` is taken. ``expired``: ends the search; what is found by then is tried.
    """
    rng = np.random.default_rng(seed)
    trial, dense = _Trial(loop, center, reach, rng), _Trial(loop, center, reach, rng, 1000)
    starts = [_root(P) for P in shapes(loop, center, reach)] + _modal(trial.line.jacobian(center), reach)
    sized = [
        (trial.volume(root, size), size * root)
        for root in starts
        if np.isfinite(root).all() and (size := trial.size(root, FAR)) > 0
    ]
    if not sized:
        return None
    sized.sort(key=lambda found: -found[0])
    roots = []
    for value, root in sized[:STARTS]:
        found = _walk(trial, value, root, tries // STARTS, rng, expired)
        size = dense.size(found, FINE)
        if size > 0:
            roots.append((trial.volume(found, size), size * found))
    jacobians = Jacobians(loop)
    for share in SHARES:
        for _, root in sorted(roots, key=lambda found: -found[0])[:2]:
            half = np.linalg.inv(root)
            P = half.T @ half
            exact, level = exact_symmetric(P / abs(P).max()), Fraction(share**2 / float(abs(P).max()))
            if expired():
                return None
            proved = contraction(loop, center, exact, level, jacobians, pieces)
            if proved is not None:
                return proved
    return _small_contraction(loop, center, reach, jacobians, expired)


def _small_contraction(
    loop: ClosedLoop, center: np.ndarray, reach: np.ndarray, jacobians: Jacobians, expired: Callable[[], bool]
) -> Contraction | None:
    """An ellipsoid of a shape that the linearisation gives, so small that hardly anything bends; what is lost is left to other stages."""
    for share in SMALL:
        for P in shapes(loop, center, reach):
            if expired():
                return None
            plain = np.array([[float(v) for v in entries] for entries in P])
            size = share * float((reach / np.sqrt(np.diag(np.linalg.inv(plain)))).min())
            proved = contraction(loop, center, P, Fraction(size) ** 2, jacobians, FEW)
            if proved is not None:
                return proved
    return None


def _walk(
    trial: _Trial, best: float, root: np.ndarray, tries: int, rng: np.random.Generator, expired: Callable[[], bool]
) -> np.ndarray:
    """A larger ellipsoid, by random changes of its shape that are kept where they help."""
    step, n = 0.3, len(root)
    for _ in range(tries):
        if expired():
            break
        candidate = root @ (np.eye(n) + step * rng.normal(size=(n, n)) / np.sqrt(n))
        size = trial.size(candidate, NEAR)
        value = trial.volume(candidate, size) if size > 0 else -np.inf
        if value > best:
            best, root, step = value, size * candidate, min(1.5 * step, 0.5)
        else:
            step = max(0.93 * step, 0.01)
    return root


class _Trial:
    """Sizes of ellipsoids {center + root u : |u| <= size} on which all Jacobians at sample points contract. A guess, not a proof."""

    def __init__(
        self, loop: ClosedLoop, center: np.ndarray, reach: np.ndarray, rng: np.random.Generator, count: int = 60
    ):
        n = len(center)
        self.line = Linearisation(loop)
        self._map, self._center, self._reach = loop.kind == "map", center, reach
        u = rng.normal(size=(count * n, n))
        self._u = u / np.linalg.norm(u, axis=1)[:, None]
        slope = self.line.jacobian(center)
        values = np.linalg.eigvals(slope)
        slowest = 1 - abs(values).max() if self._map else -values.real.max()
        self._least = LEAST * slowest

    def size(self, root: np.ndarray, sizes: np.ndarray) -> float:
        """The largest of ``sizes``, increasing, up to which all samples contract; 0 where none do."""
        turned = np.linalg.pinv(root)
        n, best = len(root), 0.0
        extent = np.sqrt((root * root).sum(1))
        for size in sizes:
            x = self._center + size * self._u @ root.T
            S = turned @ self.line.jacobians(x).reshape(-1, n, n) @ root
            if (size * extent > self._reach).any() or not np.isfinite(S).all():
                break
            S = S.transpose(0, 2, 1) @ S if self._map else 0.5 * (S + S.transpose(0, 2, 1))
            most = float(np.linalg.eigvalsh(S).max())
            growth = np.sqrt(max(most, 0.0)) - 1 if self._map else most
            if not growth < -self._least:
                break
            best = float(size)
        return best

    @staticmethod
    def volume(root: np.ndarray, size: float) -> float:
        """Logarithm, up to a constant."""
        return float(len(root) * np.log(size) + np.linalg.slogdet(root)[1])


def _root(P: Shape) -> np.ndarray:
    """x = root u turns x' P x into |u|^2."""
    return np.linalg.inv(np.linalg.cholesky(np.array([[float(v) for v in entries] for entries in P]))).T


def _modal(A: np.ndarray, reach: np.ndarray) -> list[np.ndarray]:
    """Roots along the modes of the linearisation, fast modes shorter or longer than slow ones."""
    values, vectors = np.linalg.eig(A)
    columns, speeds = [], []
    for value, vector in zip(values, vectors.T, strict=True):
        if value.imag >= 0:
            parts = [vector.real] if value.imag == 0 else [vector.real, vector.imag]
            columns += [part / np.linalg.norm(part / reach) for part in parts]
            speeds += [abs(value)] * len(parts)
    T, relative = np.array(columns).T, np.array(speeds) / max(speeds)
    if np.linalg.cond(T) > 1e8:
        return []
    return [T * relative**power for power in (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5)]
