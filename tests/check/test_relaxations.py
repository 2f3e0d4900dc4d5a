"""Ranges and lines of every function against values of 300 bits, at ends, kinks and random places; no tolerance."""

import itertools
from fractions import Fraction

import flint
import numpy as np
import pytest
from flint import arb, fmpq

from holdfast_check.network import Node
from holdfast_check.relaxations import bent, extremum, image, line

KINDS = {
    "relu": (), "abs": (), "leaky_relu": (0.1,), "clip": (-1.0, 2.0), "sigmoid": (), "tanh": (), "exp": (), "log": (), "sqrt": (),
    "square": (), "power": (3.0,), "reciprocal": (), "softplus": (), "sin": (), "cos": (),
    "tanh_slope": (), "sigmoid_slope": (), "tan": (), "atan": (), "asin": (), "window": (-1.0, 2.0),
}  # fmt: skip
CASES = [
    *KINDS.items(),
    ("power", (2.0,)),
    ("power", (5.0,)),
    ("leaky_relu", (3.0,)),
    ("leaky_relu", (-0.5,)),
    ("power", (4.0,)),
    ("window", (0.0, np.inf)),
]
NAMES = [f"{kind}{parameters or ''}" for kind, parameters in CASES]
DOMAIN = {
    "log": lambda z: z > 0,
    "sqrt": lambda z: z >= 0,
    "reciprocal": lambda z: z != 0,
    "asin": lambda z: abs(z) <= 1,
    "tan": lambda z: abs(z) < 1.57,
}


def function(kind: str, parameters: tuple[float, ...], z: float) -> arb:
    """The exact value, in a ball of 300 bits."""
    x = arb(z)
    match kind:
        case "relu":
            return x if z > 0 else arb(0)
        case "abs":
            return abs(x)
        case "leaky_relu":
            return x if z > 0 else arb(parameters[0]) * x
        case "clip":
            return arb(min(max(z, parameters[0]), parameters[1]))
        case "square":
            return x * x
        case "power":
            return x ** int(parameters[0])
        case "reciprocal":
            return 1 / x
        case "sigmoid":
            return 1 / (1 + (-x).exp())
        case "tanh_slope":
            return 1 / x.cosh() ** 2
        case "sigmoid_slope":
            return 1 / (2 * (x / 2).cosh()) ** 2
        case "window":  # at a jump the middle
            return arb(0.5) if z in parameters else arb(float(parameters[0] < z < parameters[1]))
        case "softplus":
            return (1 + x.exp()).log()
    return getattr(x, kind)()


def intervals(rng: np.random.Generator) -> np.ndarray:
    ends = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        0.5,
        -3.0,
        1e-300,
        -1e-300,
        5e-324,
        1e-17,
        -1e-9,
        30.0,
        -40.0,
        800.0,
        -800.0,
        1e6,
        -1e30,
        1e100,
    ]
    pairs = [sorted(p) for p in itertools.product(ends, repeat=2)]
    centres, widths = rng.normal(size=300) * 10.0 ** rng.uniform(-3, 2, 300), 10.0 ** rng.uniform(-18, 1.5, 300)
    pairs += [(c - w, c + w) for c, w in zip(centres, widths, strict=True)]
    pairs += [(c, np.nextafter(c, np.inf)) for c in centres[:30]]
    return np.array(pairs)


def samples(low: float, high: float, rng: np.random.Generator) -> list[float]:
    places = [low, high, 0.0, -1.0, 2.0, *(low + (high - low) * rng.uniform(size=8)), *(rng.normal(size=4))]
    return [float(z) for z in places if low <= z <= high]


def at_least(a: arb, b: arb) -> bool:
    """Not proved to be smaller, by balls of 300 bits: there is no tolerance beyond 2^-290."""
    return not a < b


def exact(x: float) -> arb:
    return arb(fmpq(*x.as_integer_ratio())) if np.isfinite(x) else arb(x)


def lines(node: Node, lows, highs, known, given):
    """Below and above."""
    one = np.ones(np.broadcast_shapes(lows[0].shape, () if given is None else given.shape))
    return [line(node, sign * one, lows, highs, known, 0.0, given) for sign in (1, -1)]


@pytest.fixture(autouse=True)
def _arithmetic():
    with np.errstate(all="ignore"):  # as `prove` does
        yield
    flint.ctx.prec = 53


@pytest.mark.parametrize(("kind", "parameters"), CASES, ids=NAMES)
@pytest.mark.parametrize("given", [False, True])
def test_lines_and_ranges_hold(kind, parameters, given):
    rng = np.random.default_rng(1)
    pairs = intervals(rng)
    low, high = pairs[:, 0][None], pairs[:, 1][None]
    node = Node(kind, (0,), len(pairs), parameters=parameters)
    known = image(node, [low], [high])
    choices = None
    if given:
        units = kind in ("relu", "abs", "leaky_relu")
        choices = rng.integers(0, 256, low.shape) if units else rng.normal(size=low.shape).astype(np.float32)
        if not units:
            choices[0, :6] = np.nan, np.inf, -np.inf, 0, 1e30, 1e-40
    below, above = lines(node, [low], [high], known, choices)
    flint.ctx.prec = 300
    for k, (left, right) in enumerate(pairs.tolist()):
        for z in samples(left, right, rng):
            if not DOMAIN.get(kind, lambda z: True)(z):
                continue
            value = function(kind, parameters, z)
            assert known[0][0, k] == -np.inf or at_least(value, exact(float(known[0][0, k]))), (left, right, z)
            assert known[1][0, k] == np.inf or at_least(exact(float(known[1][0, k])), value), (left, right, z)
            for found, sign in ((below, 1), (above, -1)):
                slope, constant = (float(np.broadcast_to(x, low.shape)[0, k]) for x in (found[0][0], found[1]))
                assert np.isfinite(slope)
                if np.isfinite(constant):
                    assert at_least(sign * value, sign * (exact(slope) * exact(z) + exact(constant))), (
                        left,
                        right,
                        z,
                        sign,
                    )
                else:
                    assert constant == -sign * np.inf


@pytest.mark.parametrize(("kind", "parameters"), CASES, ids=NAMES)
def test_ranges_are_tight(kind, parameters):
    """On intervals of ordinary size a range is that of a thousand samples, but for their spacing; lines touch."""
    low, high = np.array([[0.5, 1.0, 3.0, 0.25]]), np.array([[0.75, 4.0, 3.0, 0.250001]])
    if kind == "asin":
        low, high = 0.2 * low, 0.2 * high
    if kind == "tan":
        low, high = 0.35 * low, 0.35 * high
    if kind not in ("log", "sqrt", "reciprocal", "asin", "tan"):
        low, high = np.append(low, [[-1.5, -3.0]], axis=1), np.append(high, [[2.5, -2.0]], axis=1)
    node = Node(kind, (0,), low.size, parameters=parameters)
    known = image(node, [low], [high])
    below, above = lines(node, [low], [high], known, None)
    for k in range(low.size):
        grid = np.linspace(low[0, k], high[0, k], 1001)
        values = np.array([float(function(kind, parameters, float(z)).mid()) for z in grid])
        slack = 1e-9 + 2e-5 * np.ptp(values) + (0.5 if kind == "window" else 0.0)
        assert abs(known[0][0, k] - values.min()) <= slack and abs(known[1][0, k] - values.max()) <= slack
        for found, sign in ((below, 1), (above, -1)):
            gap = sign * (values - found[0][0][0, k] * grid - found[1][0, k])
            assert gap.min() >= -1e-12 and gap.min() <= slack + 5e-3 * np.ptp(grid)


EXACT = ("relu", "clip", "abs")


def test_values_at_exact_places_are_exact():
    for kind, z, value in (("square", (-1.0, 2.0), (0.0, 4.0)), ("sqrt", (0.0, 4.0), (0.0, 2.0)), ("relu", (-1.0, 2.0), (0.0, 2.0)),
                           ("clip", (-5.0, 1.5), (-1.0, 1.5))):  # fmt: skip
        low, high = (np.array([[end]]) for end in z)
        found = image(Node(kind, (0,), 1, parameters=KINDS[kind]), [low], [high])
        assert (found[0].item(), found[1].item()) == (
            value if kind in EXACT else pytest.approx(value, rel=1e-15, abs=1e-300)
        )


def test_infinite_ranges_say_what_the_image_says():
    low, high = np.array([[-np.inf]]), np.array([[np.inf]])
    for kind, expected in (("sigmoid", (0, 1)), ("tanh", (-1, 1)), ("relu", (0, np.inf)), ("abs", (0, np.inf)), ("exp", (0, np.inf)),
                           ("log", (-np.inf, np.inf)), ("clip", (-1, 2)), ("softplus", (0, np.inf))):  # fmt: skip
        node = Node(kind, (0,), 1, parameters=KINDS[kind])
        known = image(node, [low], [high])
        below, above = lines(node, [low], [high], known, None)
        assert (known[0].item(), known[1].item()) == pytest.approx(expected, abs=1e-8), kind
        assert not np.isnan([below[1].item(), above[1].item()]).any()
        if kind in ("sigmoid", "tanh", "clip"):
            assert (below[0][0].item(), below[1].item()) == pytest.approx((0, expected[0]), abs=1e-8)


@pytest.mark.parametrize("given", [None, 0, 255, 77])
def test_products(given):
    rng = np.random.default_rng(2)
    size = 200
    ends = [np.sort(rng.normal(size=(2, size)) * 10.0 ** rng.integers(-8, 8, size), axis=0) for _ in range(2)]
    ends[0][:, 0], ends[1][:, 0], ends[0][:, 1] = (2, 2), (3, 3), (0, 0)
    lows, highs = [e[0][None] for e in ends], [e[1][None] for e in ends]
    node = Node("product", (0, 1), size)
    known = image(node, lows, highs)
    below, above = lines(node, lows, highs, known, None if given is None else np.full((1, size), given))
    assert known[0][0, 0] == pytest.approx(6) and bent(node, lows, highs)[0, 0].item() is False
    flint.ctx.prec = 300
    for k in range(size):
        for p, q in [(0, 0), (0, 1), (1, 0), (1, 1), *rng.uniform(size=(4, 2))]:
            x, y = (
                float(np.clip(e[0, k] + t * (e[1, k] - e[0, k]), e[0, k], e[1, k]))
                for e, t in zip(ends, (p, q), strict=True)
            )
            value = exact(x) * exact(y)
            assert at_least(value, exact(known[0][0, k])) and at_least(exact(known[1][0, k]), value)
            for found, sign in ((below, 1), (above, -1)):
                a, b, c = (exact(float(v[0, k])) for v in (*found[0], found[1]))
                assert at_least(sign * value, sign * (a * exact(x) + b * exact(y) + c))


def test_the_meaning_of_evidence():
    low, high = np.array([[-1.0]]), np.array([[3.0]])
    for kind, slope in (("relu", 0.2), ("abs", -0.6), ("leaky_relu", 0.1 + 0.9 * 0.2)):
        node = Node(kind, (0,), 1, parameters=KINDS[kind])
        below, above = lines(node, [low], [high], image(node, [low], [high]), np.array([[51.0]]))
        assert below[0][0].item() == pytest.approx(slope) and -1e-14 < below[1].item() < 0
        assert above[0][0].item() == pytest.approx({"relu": 0.75, "abs": 0.5, "leaky_relu": 3.1 / 4}[kind])
    node, given = Node("tanh", (0,), 2), np.array([[0.5, 0.25]])
    known = image(node, [low], [high])
    below, above = lines(node, [low], [high], known, given)
    assert above[0][0].tolist() == below[0][0].tolist() == given.tolist()
    assert above[1][0, 0] == pytest.approx(np.tanh(z := np.arctanh(0.5**0.5)) - 0.5 * z)
    asked = line(node, np.array([[1.0, -1.0]]), [low], [high], known, 0.0, given)
    assert asked[1].tolist() == [[below[1][0, 0], above[1][0, 1]]]


@pytest.mark.parametrize("kind", ["relu", "tanh", "product"])
def test_noise_and_rounding_are_charged(kind):
    """Noise in full, unless the line is the constant that bounds the noisy value; 4 u |s| X and gamma |c| where there is a slope."""
    count = 2 if kind == "product" else 1
    ends = [np.array([[-1.0]])] * count, [np.array([[1.5]])] * count
    node = Node(kind, tuple(range(count)), 1)
    known = image(node, *ends)
    for sign in (np.ones((1, 1)), -np.ones((1, 1))):
        real, noisy = (line(node, sign, *ends, known, noise, None) for noise in (0.0, 1e-3))
        assert 1e-3 <= (sign * (real[1] - noisy[1])).item() <= 1.00001e-3
        level = 5.0 * sign
        flat = line(node, sign, *ends, (level, level), 1e-3, None)
        assert flat[0][0].item() == 0 and 0 < (sign * (level - flat[1])).item() < 1e-13
    node, ends = Node("relu", (0,), 1), ([np.ones((1, 1))], [np.full((1, 1), 1.5)])
    assert line(node, np.ones((1, 1)), *ends, image(node, *ends), 0.0, None)[1].item() <= -4 * 2.0**-53 * 1.5


def test_bent_is_where_a_function_is_not_linear():
    low, high = np.array([[-2.0, -1.0, 0.0, 3.0, 1.0]]), np.array([[-1.0, 1.0, 1.0, 4.0, 1.0]])
    expected = {"relu": [0, 1, 0, 0, 0], "clip": [0, 0, 0, 0, 0], "tanh": [1, 1, 1, 1, 0]}
    for kind, values in expected.items():
        assert bent(Node(kind, (0,), 5, parameters=KINDS[kind]), [low], [high])[0].tolist() == [bool(v) for v in values]
    assert bent(Node("clip", (0,), 5, parameters=(0.0, 3.5)), [low], [high])[0].tolist() == [
        False,
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize("slope", [5e-324, 2.0**-1073])
def test_a_line_below_the_reciprocal_where_its_derivative_underflows(slope):
    """1 / z - slope z at the right end: the square of the left end overflows."""
    low, high = 2.0**513, 2.0**530
    ends = (np.array([[v]]) for v in (1.0, low, high, slope))
    sign, left, right, slopes = ends
    with np.errstate(all="ignore"):
        found = extremum(Node("reciprocal", (0,), 1), sign, [left], [right], [slopes]).item()
    assert found == -np.inf or Fraction(found) <= 1 / Fraction(high) - Fraction(slope) * Fraction(high)
