"""Random graphs of all cards, with random parameters (exact, or known up to a radius), and random boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flint
import numpy as np

from holdfast.graph import Graph, Model, Tensor
from holdfast.operators import GraphBuilder
from random_networks.exact import Balls, balls

LARGEST = 24  # elements of a node
SMOOTH = (
    "sigmoid", "tanh", "exp", "softplus", "sin", "cos", "square", "power", "atan", "tanh_derivative", "sigmoid_derivative",
    "atan_derivative",
)  # fmt: skip
KINKED = ("relu", "relu", "relu", "abs", "clip", "leaky_relu", "heaviside", "max")


@dataclass(frozen=True, eq=False)
class Sample:
    """A network, what float64 holds of its parameters, and their true values."""

    model: Model
    truth: Mapping[str, Balls]

    @property
    def graph(self) -> Graph:
        """Its structure."""
        return self.model.graph


def wild(rng: np.random.Generator, shape: tuple[int, ...], mild: bool) -> np.ndarray:
    """Weights: small integers, float32 or float64 numbers, sparse, at times of absurd scale."""
    kind = rng.integers(6)
    if kind == 0:
        return rng.integers(-3, 4, shape).astype(float)
    scale = 10.0 ** rng.uniform(-1, 0.7)
    if not mild and kind == 1:
        scale = 10.0 ** rng.uniform(-30, 8, shape if rng.random() < 0.5 else ())
    w = rng.normal(size=shape) * scale
    if kind == 2:
        w = w * (rng.random(shape) < 0.5)
    return w if kind == 3 else w.astype(np.float32).astype(np.float64)


class Growth:
    """Grows one graph by random nodes."""

    def __init__(self, rng: np.random.Generator, mild: bool, cards: tuple[str, ...], radii: bool):
        self.rng, self.mild, self.cards, self.radii = rng, mild, cards, radii
        self.builder = GraphBuilder()

    def pick(self) -> int:
        """Mostly the last value, at times an earlier one."""
        last = len(self.builder) - 1
        return last if self.rng.random() < 0.75 else int(self.rng.integers(0, last + 1))

    def shape(self, x: int) -> tuple[int, ...]:
        return self.builder.shape(x)

    def add(self, op: str, inputs: list[int], parameters: list[np.ndarray] | None = None, **attributes: object) -> int:
        """A node; its parameters get radii at random."""
        parameters = parameters or []
        radii: list[np.ndarray | None] = [self._radius(p) for p in parameters]
        if all(r is None for r in radii):
            radii = []
        return self.builder.add(op, inputs, parameters, radii=radii, **attributes)  # type: ignore[arg-type]

    def _radius(self, p: np.ndarray) -> np.ndarray | None:
        if not self.radii or self.rng.random() < 0.6:
            return None
        kind = self.rng.integers(3)
        if kind == 0:
            return np.abs(p) * 2.0**-53
        return np.abs(p) * 10.0 ** self.rng.uniform(-17, -2) + (1e-12 if kind == 1 else 0.0)

    def weights(self, *shape: int) -> np.ndarray:
        return wild(self.rng, shape, self.mild)

    def linear(self) -> None:
        """One random linear node."""
        ways: list[Callable[[int], int | None]] = [
            self._dense, self._dense, self._dense, self._scale, self._add, self._conv, self._transposed, self._move, self._gather,
            self._concat, self._pad, self._expand, self._reduce, self._constant,
        ]  # fmt: skip
        ways[self.rng.integers(len(ways))](self.pick())

    def _dense(self, x: int) -> int:
        if not self.shape(x):
            x = self.add("reshape", [x], shape=(1,))
        k, m = self.shape(x)[-1], int(self.rng.integers(1, 6))
        p = [self.weights(k, m)] + ([self.weights(m)] if self.rng.random() < 0.7 else [])
        return self.add("dense", [x], p)

    def _scale(self, x: int) -> int:
        shape = self.shape(x)
        part = tuple(n if self.rng.random() < 0.7 else 1 for n in shape)
        return self.add("scale", [x], [self.weights(*part), self.weights(*(part if self.rng.random() < 0.5 else ()))])

    def partner(self, x: int) -> int:
        """Another value of the same shape, perhaps itself, perhaps a new linear map of it."""
        same = [i for i in range(len(self.builder)) if self.shape(i) == self.shape(x)]
        other = same[self.rng.integers(len(same))]
        return other if other != x or self.rng.random() < 0.2 else self._scale(x)

    def _add(self, x: int) -> int:
        terms = [x] + [self.partner(x) for _ in range(self.rng.integers(1, 3))]
        return self.add("add", terms, signs=tuple(int(s) for s in self.rng.choice([-1, 1], len(terms))))

    def _conv(self, x: int) -> int:
        rng, size = self.rng, math.prod(self.shape(x))
        channels = 2 if size % 2 == 0 and size >= 4 else 1
        space: tuple[int, ...] = (size // channels,)
        if space[0] >= 4 and space[0] % 2 == 0:
            space = (2, space[0] // 2)
        groups = 2 if channels == 2 and rng.random() < 0.3 else 1
        x = self.add("reshape", [x], shape=(1, channels, *space))
        kernel = tuple(int(rng.integers(1, min(n, 3) + 1)) for n in space)
        strides = tuple(int(rng.integers(1, 3)) for _ in space)
        pads = tuple((int(rng.integers(0, k)), int(rng.integers(0, k))) for k in kernel)
        dilations = tuple(
            2 if k == 2 and n >= 3 and rng.random() < 0.3 else 1 for k, n in zip(kernel, space, strict=True)
        )
        p = [self.weights(2, channels // groups, *kernel)] + ([self.weights(2)] if rng.random() < 0.5 else [])
        return self.add("conv", [x], p, strides=strides, pads=pads, dilations=dilations, groups=groups)

    def _transposed(self, x: int) -> int | None:
        size, k, s = math.prod(self.shape(x)), int(self.rng.integers(1, 3)), int(self.rng.integers(1, 3))
        channels = 2 if size % 2 == 0 else 1
        n = size // channels
        space = (n - 1) * s + k
        if 2 * space > LARGEST:
            return None
        x = self.add("reshape", [x], shape=(1, channels, n))
        p = [self.weights(channels, 2, k)] + ([self.weights(2)] if self.rng.random() < 0.5 else [])
        return self.add(
            "conv_transpose", [x], p, strides=(s,), pads=((0, 0),), dilations=(1,), groups=1, space=(space,)
        )

    def _move(self, x: int) -> int:
        rng, shape = self.rng, self.shape(x)
        kind = rng.integers(3)
        if kind == 0:
            return self.add("transpose", [x], permutation=tuple(int(i) for i in rng.permutation(len(shape))))
        if kind == 1:
            slices = []
            for n in shape:
                start, step = int(rng.integers(n)), int(rng.choice([-2, -1, 1, 2]))
                room = (n - 1 - start) // step + 1 if step > 0 else start // -step + 1
                slices.append((start, int(rng.integers(1, room + 1)), step) if rng.random() < 0.5 else (0, n, 1))
            return self.add("slice", [x], slices=tuple(slices))
        size = math.prod(shape)
        factor = next((f for f in (2, 3, 5) if size % f == 0), 1)
        return self.add("reshape", [x], shape=(factor, size // factor))

    def _gather(self, x: int) -> int | None:
        shape = self.shape(x)
        if not shape:
            return None
        axis = int(self.rng.integers(len(shape)))
        count = int(self.rng.integers(1, 5))
        if math.prod(shape) // shape[axis] * count > LARGEST:
            return None
        return self.add(
            "gather", [x], axis=axis, indices=tuple(int(i) for i in self.rng.integers(0, shape[axis], count))
        )

    def _constant(self, x: int) -> int:
        """A constant, at once mixed with a variable."""
        c = self.add("constant", [], [self.weights(*self.shape(x))])
        kind = self.rng.integers(3)
        if kind == 0 and self.shape(x) and 2 * math.prod(self.shape(x)) <= LARGEST:
            return self.add("concat", [c, x, x][: 2 + int(3 * math.prod(self.shape(x)) <= LARGEST)], axis=0)
        return self.add("product", [x, c]) if kind == 1 else self.add("add", [c, x], signs=(-1, 1))

    def _concat(self, x: int) -> int | None:
        if not self.shape(x) or 2 * math.prod(self.shape(x)) > LARGEST:
            return None
        return self.add("concat", [x, self.partner(x)], axis=int(self.rng.integers(len(self.shape(x)))))

    def _pad(self, x: int) -> int | None:
        pads = tuple((int(self.rng.integers(2)), int(self.rng.integers(2))) for _ in self.shape(x))
        if not pads or math.prod(b + n + a for n, (b, a) in zip(self.shape(x), pads, strict=True)) > LARGEST:
            return None
        return self.add("pad", [x], pads=pads)

    def _expand(self, x: int) -> int | None:
        shape = tuple(n if n > 1 or self.rng.random() < 0.5 else 3 for n in self.shape(x))
        shape = (2, *shape) if self.rng.random() < 0.5 else shape
        return None if math.prod(shape) > LARGEST else self.add("expand", [x], shape=shape)

    def _reduce(self, x: int) -> int:
        axes = tuple(i for i in range(len(self.shape(x))) if self.rng.random() < 0.5)
        return self.add("reduce_sum", [x], axes=axes)

    def nonlinear(self) -> None:
        """One random nonlinear node, kept inside the domain of its function."""
        rng, x = self.rng, self.pick()
        op = self.cards[rng.integers(len(self.cards))]
        if op == "clip":
            ends = np.sort(self.weights(2))
            self.add("clip", [x], low=float(ends[0]), high=float(ends[1]))
        elif op == "leaky_relu":
            alpha = float(rng.choice([0.01, 0.1, float(np.float32(0.1)), 0.5, 1.0, 3.0, -0.5, -2.0, 0.0, 1e-20, 100.0]))
            self.add("leaky_relu", [x], alpha=alpha)
        elif op == "max":  # b + relu(a - b), as the loader writes a maximum
            b = self.partner(x)
            gap = self.builder.add("add", [x, b], signs=(1, -1), rounds=False)
            gap = self.builder.add("relu", [gap], rounds=False)
            self.builder.add("add", [b, gap], signs=(1, 1), rounds=False)
        elif op == "power":
            self.add("power", [x], exponent=int(rng.integers(2, 6)))
        elif op == "product":
            self.add("product", [x, self.partner(x)])
        elif op in ("tan", "asin", "acos"):
            x = self.add(str(rng.choice(["tanh", "sin"])), [x])
            x = self.builder.add("scale", [x], [np.array(float(rng.uniform(0.1, 0.95))), np.zeros(())])
            self.add(op, [x])
        elif op in ("reciprocal", "log", "sqrt"):
            x = self.add(str(rng.choice(["abs", "square", "relu", "sigmoid"])), [x])
            offset = 0.0 if op == "sqrt" and rng.random() < 0.5 else 10.0 ** rng.uniform(-2, 1)
            if offset:
                x = self.builder.add("scale", [x], [np.ones(()), np.array(offset)])
            sign = op == "reciprocal" and rng.random() < 0.4
            x = self.builder.add("scale", [x], [np.array(-1.0), np.zeros(())]) if sign else x
            self.add(op, [x])
        else:
            self.add(op, [x])


def random_sample(rng: np.random.Generator, *, smooth: bool = True, mild: bool | None = None) -> Sample:
    """A random network with one input of random shape and up to three outputs (flat)."""
    mild = bool(rng.random() < 0.6) if mild is None else mild
    cards = KINKED
    if smooth and rng.random() < 0.6:
        cards = (*KINKED, *SMOOTH, "product", "product", "reciprocal", "log", "sqrt", "tan", "asin", "acos")
    grown = Growth(rng, mild, cards, radii=bool(rng.random() < 0.4))
    n = int(rng.integers(1, 7))
    grown.builder.input(((n,), (1, n), (1, n, 1), (2, n))[rng.integers(4)], "x")
    grown._dense(0)
    for _ in range(rng.integers(1, 6)):
        if rng.random() < 0.55:
            grown.linear()
        grown.nonlinear()
    last = len(grown.builder) - 1
    flat = grown.add("reshape", [last], shape=(math.prod(grown.shape(last)),))
    k = grown.shape(flat)[0]
    out = grown.add("dense", [flat], [grown.weights(k, int(rng.integers(1, 4)))])
    graph, parameters = grown.builder.build([out])
    radii = dict(grown.builder.radii)
    model = Model(
        graph, parameters, (Tensor("x", graph[0].shape),), (Tensor("y", graph[out].shape),), "random", radii=radii
    )
    return Sample(model, true_parameters(rng, model))


def lattice_sample(rng: np.random.Generator) -> Sample:
    """A chain of flat layers in which every neuron reads two or three others."""
    b = GraphBuilder()
    size = int(rng.integers(2, 5))
    x = b.input((1, size) if rng.random() < 0.5 else (size,), "x")
    x = b.add("reshape", [x], shape=(size,))
    for depth in range(rng.integers(2, 5)):
        width = int(rng.integers(6, LARGEST))
        w = wild(rng, (size, width), mild=bool(rng.random() < 0.7))
        keep = np.zeros((size, width), bool)
        near = (np.arange(width) * size // width)[None] + rng.integers(-1, 2, (3 if depth else 1, width))
        keep[np.clip(near, 0, size - 1), np.arange(width)] = True
        p = [np.where(keep, w, 0.0)] + ([wild(rng, (width,), mild=True)] if rng.random() < 0.7 else [])
        radii = [np.abs(p[0]) * 1e-9, *[None] * (len(p) - 1)] if rng.random() < 0.2 else []
        x = b.add("dense", [x], p, radii=radii)
        x = b.add(str(rng.choice(["relu", "relu", "relu", "abs", "tanh", "sigmoid"])), [x])
        size = width
    out = b.add("dense", [x], [wild(rng, (size, 2), mild=True)])
    graph, parameters = b.build([out])
    inputs, outputs = (Tensor("x", graph[0].shape),), (Tensor("y", graph[out].shape),)
    model = Model(graph, parameters, inputs, outputs, "lattice", radii=dict(b.radii))
    return Sample(model, true_parameters(rng, model))


def true_parameters(rng: np.random.Generator, model: Model) -> dict[str, Balls]:
    """Real parameters within the radii of the stored ones, at random, often at the ends."""
    truth = {}
    for key, value in model.parameters.items():
        exact = balls(value)
        if key in model.radii:
            share = rng.uniform(-1, 1, value.shape)
            share = np.where(rng.random(value.shape) < 0.5, np.sign(share), share)
            exact = exact + balls(share) * balls(model.radii[key])
        truth[key] = exact
    return truth


def random_boxes(
    rng: np.random.Generator, n: int, count: int, *, dtype: str = "float64"
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (count, n): normal, degenerate, one ulp wide, huge, tiny, far away, degenerate in part."""
    low, high = np.empty((count, n)), np.empty((count, n))
    kind_of = np.dtype(dtype).type
    for i in range(count):
        kind = rng.choice(["normal", "normal", "normal", "point", "ulp", "huge", "tiny", "far", "part", "zero"])
        centre = rng.normal(size=n) * (10.0 ** rng.uniform(2, 6) if kind == "far" else 1.0)
        width = {"huge": 10.0 ** rng.uniform(2, 8), "tiny": 10.0 ** rng.uniform(-14, -5), "point": 0.0, "ulp": 0.0}.get(
            str(kind), 10.0 ** rng.uniform(-2, 0.5)
        )
        half = width * rng.random(n)
        if kind == "part":
            half = half * (rng.random(n) < 0.5)
        a, b = (centre - half).astype(dtype), (centre + half).astype(dtype)
        if kind == "ulp":
            b = np.nextafter(a, kind_of(np.inf))
        if kind == "zero":  # kinks at an end
            a = np.zeros(n, dtype)
        low[i], high[i] = a, np.maximum(a, b)
    return low, high


def exact_input(x: np.ndarray) -> Balls:
    """A float64 point as balls."""
    return np.array([flint.arb(float(v)) for v in x.reshape(-1)], object)
