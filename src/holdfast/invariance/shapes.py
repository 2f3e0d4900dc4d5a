"""Candidate sets around an equilibrium, as images of the unit cube or ball: x = center + size * V y. Plain arithmetic, never a proof.

Directions come from the linearisation: its real Jordan basis, for cubes (in those coordinates a linear system leaves a cube nowhere
if its eigenvalues' imaginary parts are smaller than their decay), and Lyapunov equations, for balls (Blanchini, Set invariance in
control, Automatica 35, 1999). How far a candidate may grow is measured by sampling its boundary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from holdfast.invariance.equilibrium import Linearisation, shapes
from holdfast.loop import ClosedLoop
from holdfast.spec.temporal import Ellipsoid, Polytope
from holdfast.transforms import derivative, evaluate

Form = Literal["parallelotope", "ellipsoid", "box"]
FORMS: tuple[Form, ...] = ("box", "ellipsoid", "parallelotope")
DIGITS = 7  # significant ones of the numbers of a set
SAMPLES = 1 << 10  # per candidate and size
LEAST = 1.003  # a change must make the set so much larger in every direction
FURTHER = np.array([1.01, 1.03, 1.07, 1.15, 1.3])


@dataclass(frozen=True, eq=False)
class Shape:
    """{center + V y}: y in the unit ball ("ellipsoid") or in the unit cube."""

    form: Form
    center: np.ndarray
    V: np.ndarray

    @property
    def log_volume(self) -> float:
        """Natural logarithm of the volume."""
        n = len(self.center)
        unit = n * math.log(2.0)
        if self.form == "ellipsoid":
            unit = 0.5 * n * math.log(math.pi) - math.lgamma(0.5 * n + 1.0)
        return unit + float(np.linalg.slogdet(self.V)[1])

    def scaled(self, factor: float) -> Shape:
        """Larger or smaller."""
        return replace(self, V=factor * self.V)

    def half_widths(self) -> np.ndarray:
        """Of the smallest box around it."""
        return np.linalg.norm(self.V, axis=1) if self.form == "ellipsoid" else abs(self.V).sum(1)

    def states(self) -> Polytope | Ellipsoid:
        """The set in short decimals."""
        back = np.linalg.inv(self.V)
        center = tuple(decimal(c, DIGITS + 2) for c in self.center)
        n = len(center)
        if self.form == "ellipsoid":
            P = back.T @ back
            rows = tuple(tuple(decimal(P[max(i, j), min(i, j)], DIGITS + 3) for j in range(n)) for i in range(n))
            return Ellipsoid(center, rows, Fraction(1))
        H, ends = [], []
        for form in back:  # rows with a largest entry of 1
            size = abs(form).max()
            H.append(tuple(decimal(v, DIGITS, 1.0) for v in form / size))
            ends.append(decimal(1 / size, DIGITS))
        return Polytope(tuple(H), tuple(-e for e in ends), tuple(ends), center)


def decimal(value: float, digits: int, unit: float | None = None) -> Fraction:
    """A short decimal near the number; with a ``unit``, digits are counted from there, else from its own first."""
    if not value or not math.isfinite(value):
        return Fraction(0)
    places = digits - 1 - math.floor(math.log10(abs(unit or value)))
    return Fraction(round(Fraction(value) * Fraction(10) ** places)) / Fraction(10) ** places


def candidates(loop: ClosedLoop, center: np.ndarray, form: Form, reach: np.ndarray) -> list[Shape]:
    """Directions to begin with; sizes mean nothing yet. ``reach``: half-widths (n,) of interest."""
    A = Linearisation(loop).jacobian(center)
    if not np.isfinite(A).all():
        return []
    if form == "box":
        return [Shape(form, center, np.diag(d)) for d in _box_widths(loop, A, reach)]
    if form == "ellipsoid":
        found = []
        for scales in (reach, np.ones(len(reach))):
            for P in shapes(loop, center, scales):
                plain = np.array([[float(v) for v in row] for row in P])
                found.append(Shape(form, center, np.linalg.inv(np.linalg.cholesky(plain)).T))
        return found
    return [Shape(form, center, V) for V in _bases(A)]


def _bases(A: np.ndarray) -> Iterator[np.ndarray]:
    """Columns: real and imaginary parts of eigenvectors; where these are nearly dependent, Schur vectors, ever shorter."""
    import scipy.linalg

    values, vectors = np.linalg.eig(A)
    columns = []
    for value, vector in zip(values, vectors.T, strict=True):
        if value.imag >= 0:
            columns.append(vector.real)
        if value.imag > 0:
            columns.append(vector.imag)
    V = np.array(columns).T
    V = V / np.linalg.norm(V, axis=0)
    if np.linalg.cond(V) < 1e6:
        yield V
    _, Q = scipy.linalg.schur(A)
    for shrink in (0.5, 0.1):
        yield Q * shrink ** np.arange(len(A))[::-1]
        yield Q * shrink ** np.arange(len(A))


def _box_widths(loop: ClosedLoop, A: np.ndarray, reach: np.ndarray) -> list[np.ndarray]:
    """Widths of boxes that the linearisation keeps (Perron vector of its Metzler part), and the domain's own."""
    n = len(A)
    size = abs(A)
    if loop.kind == "ode":
        size = np.where(np.eye(n, dtype=bool), A, size)
        size = size - min(0.0, float(np.diag(size).min())) * np.eye(n)
    values, vectors = np.linalg.eig(size + 1e-9)
    vector = abs(vectors[:, np.argmax(values.real)].real)
    return [np.maximum(vector, 1e-6 * vector.max()), reach / reach.max()]


class Sampled:
    """How clearly the loop points inwards on the boundary of sets of one form, measured at samples."""

    def __init__(self, loop: ClosedLoop, form: Form, rng: np.random.Generator, samples: int = SAMPLES):
        self._loop, self._form = loop, form
        self.clearance = 0.02  # asked of all samples, as a share of the largest speed in the set's own units
        n = len(loop.states)
        self._jacobian = derivative(loop.dynamics) if len(loop.others) else None
        if form == "ellipsoid":
            y = rng.normal(size=(samples, n))
            self.y = y / np.linalg.norm(y, axis=1)[:, None]
            normal = self.y
        else:
            each = max(4, samples // (2 * n))
            y = rng.uniform(-1, 1, size=(n, 2, each, n))
            vertices = rng.random((n, 2, each)) < 0.7
            y = np.where(vertices[..., None], np.sign(y), y)
            normal = np.zeros_like(y)
            for k in range(n):
                y[k, 0, :, k], y[k, 1, :, k] = 1.0, -1.0
                normal[k, 0, :, k], normal[k, 1, :, k] = 1.0, -1.0
            self.y, normal = y.reshape(-1, n), normal.reshape(-1, n)
        if loop.kind == "map":  # images of inner points count as well
            shrunk = self.y * rng.random((len(self.y), 1)) ** 0.5
            self.y = np.concatenate([self.y, shrunk])
            normal = self.y
        self._outwards = normal
        self._fixed = np.zeros(len(self.y), bool)  # samples that come with disturbances and parameters
        self._others = np.broadcast_to(0.5 * (loop.others.lower + loop.others.upper), (len(self.y), len(loop.others)))

    def aim(self, shape: Shape) -> None:
        """Remember for each sample which disturbances and parameters push it outwards from this set, to first order."""
        if self._jacobian is None:
            return
        loop, back = self._loop, np.linalg.inv(shape.V)
        n, graph = len(loop.states), self._jacobian.graph
        x = shape.center + self.y @ shape.V.T
        middle = np.broadcast_to(0.5 * (loop.others.lower + loop.others.upper), (len(x), len(loop.others)))
        with np.errstate(all="ignore"):
            v = np.concatenate([x, middle], axis=1)
            J = evaluate(graph, self._jacobian.parameters, [v])[graph.outputs[0]].reshape(len(x), n, -1)
        push = np.einsum("ki,kij->kj", self._outwards @ back, J[:, :, n:])
        aimed = np.where(push > 0, loop.others.upper, loop.others.lower)
        self._others = np.where(self._fixed[:, None], self._others, aimed)

    def add(self, shape: Shape, points: np.ndarray) -> None:
        """Further samples: points (K, variables) on the boundary of the shape (maps: in it) at which a claim failed."""
        n = len(self._loop.states)
        y = (points[:, :n] - shape.center) @ np.linalg.inv(shape.V).T
        if self._form == "ellipsoid":
            normal = y / np.maximum(np.linalg.norm(y, axis=1), 1e-300)[:, None]
            y = normal if self._loop.kind == "ode" else y
        else:
            face = np.argmax(abs(y), axis=1)
            normal = np.zeros_like(y)
            normal[np.arange(len(y)), face] = np.sign(y[np.arange(len(y)), face])
        self.y, self._outwards = np.concatenate([self.y, y]), np.concatenate([self._outwards, normal])
        self._others = np.concatenate([self._others, points[:, n:]])
        self._fixed = np.concatenate([self._fixed, np.ones(len(y), bool)])

    def clear(self, shape: Shape, sizes: np.ndarray) -> np.ndarray:
        """For each size the least clearance over all samples: positive where every sample is kept, as a share of the speed."""
        back = np.linalg.inv(shape.V)
        x = shape.center + sizes[:, None, None] * (self.y @ shape.V.T)
        flow = self._flow(x)
        if self._loop.kind == "ode":
            units = (flow @ back.T) / sizes[:, None, None]
            speed = np.linalg.norm(units, axis=2).max(1)
            out = (units * self._outwards).sum(2).max(1)
            result = -out / np.maximum(speed, 1e-300)
        else:
            units = ((flow - shape.center) @ back.T) / sizes[:, None, None]
            length = np.linalg.norm(units, axis=2) if self._form == "ellipsoid" else abs(units).max(2)
            result = 1.0 - length.max(1)
        return np.where(np.isfinite(result), result, -np.inf)

    def _flow(self, x: np.ndarray) -> np.ndarray:
        """f at points (sizes, samples, n)."""
        others = np.broadcast_to(self._others, (*x.shape[:2], self._others.shape[1]))
        v = np.concatenate([x, others], axis=2).reshape(-1, len(self._loop.variables))
        graph = self._loop.dynamics.graph
        with np.errstate(all="ignore"), threadpool_limits(1, user_api="blas"):
            return evaluate(graph, self._loop.dynamics.parameters, [v])[graph.outputs[0]].reshape(x.shape)


def largest_size(sampled: Sampled, shape: Shape, sizes: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The largest of the sizes at which the samples are kept and the set lies in the box; 0 where there is none."""
    room = np.minimum(high - shape.center, shape.center - low)
    if (room <= 0).any():
        return 0.0
    most = float((room / shape.half_widths()).min())
    sizes = np.unique(np.minimum(sizes, most))
    fine = sampled.clear(shape, sizes) > sampled.clearance
    return float(sizes[fine].max(initial=0.0))


def grow(
    sampled: Sampled, shape: Shape, low: np.ndarray, high: np.ndarray, rng: np.random.Generator, rounds: int
) -> Iterator[Shape]:
    """Ever larger sets that the samples say are kept: random changes of directions and centre (a (1+1) evolution strategy).

    Rechenberg, Evolutionsstrategie, 1973. ``low``, ``high``: the box that the sets stay in. Yields every improvement; nothing where no size
    is kept.
    """
    room = np.minimum(high - shape.center, shape.center - low)
    most = float((room / shape.half_widths()).min()) if (room > 0).all() else 0.0
    if not most:
        return
    sampled.aim(shape.scaled(0.1 * most))
    size = largest_size(sampled, shape, most * 0.75 ** np.arange(40.0), low, high)
    if not size:
        return
    best = shape.scaled(size)
    yield best
    yield from evolve(sampled, best, low, high, rng, rounds)


def evolve(
    sampled: Sampled, best: Shape, low: np.ndarray, high: np.ndarray, rng: np.random.Generator, rounds: int,
    expired: Callable[[], bool] = lambda: False,
) -> Iterator[Shape]:  # fmt: skip
    """Improvements of a set that the samples say is kept, by so many random changes or until the time is over."""
    n, step = len(best.center), 0.15
    for _ in range(rounds):
        if expired():
            break
        change = rng.normal(size=(n, n))
        if best.form == "box":
            change = np.diag(np.diag(change))
        V = best.V @ (np.eye(n) + step * change)
        if not np.isfinite(np.linalg.slogdet(V)[1]):
            continue
        trial = Shape(best.form, best.center + 0.3 * step * (best.V @ rng.normal(size=n)), V)
        trial = trial.scaled(math.exp((best.log_volume - trial.log_volume) / n))
        if largest_size(sampled, trial, np.array([LEAST]), low, high) < LEAST:
            step = max(step * 1.5**-0.25, 2e-3)
            continue
        trial = trial.scaled(max(LEAST, largest_size(sampled, trial, FURTHER, low, high)))
        sampled.aim(trial)
        if sampled.clear(trial, np.ones(1))[0] > sampled.clearance:
            best, step = trial, min(1.5 * step, 0.5)
            yield best
