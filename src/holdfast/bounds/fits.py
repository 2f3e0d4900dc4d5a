"""Polynomials in place of functions of one variable on a range, with a bound of the difference.

What Taylor models do with every card: Taylor's formula where the range is narrow, a fit that is compared with lines on cells where it
is wide, the best parabola across a kink. Mason, Handscomb, Chebyshev Polynomials, 2003 (economisation).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from holdfast.graph import Node
from holdfast.operators import OPERATORS, Relaxation, UnaryOperator
from holdfast.operators.series import series
from holdfast.rigor import FLOAT64
from holdfast.rigor.functions import ATAN, ATAN_CURVATURE, SIGMOID, SIGMOID_CURVATURE, TANH, TANH_CURVATURE

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
CELLS = 16  # of a range on which the fitted polynomial is compared with the function
LOOSE = 1e-3  # of the size of the linear term: a remainder of Taylor's formula above this is worth a fit
FITTED = 6  # highest degree of a fit
# functions whose second derivative stands in the table of functions, with a bound of the third
_CURVED = {
    "tanh": (TANH, TANH_CURVATURE, 2.0),
    "sigmoid": (SIGMOID, SIGMOID_CURVATURE, 0.125),
    "atan": (ATAN, ATAN_CURVATURE, 2.0),
}


@dataclass(frozen=True, eq=False)
class Fit:
    """g(z) = sum_i coefficients_i (z - center)^i +- error on a range; ``coefficients`` (d + 1, B, *shape)."""

    center: Array
    coefficients: Array
    error: Array


def fit(node: Node, low: Array, high: Array, degree: int) -> Fit:
    """A polynomial of at most this degree in place of the function on [low, high], and a bound of the difference.

    Infinite where the range leaves the function's domain, or is not finite itself.
    """
    card = OPERATORS[node.op]
    assert isinstance(card, UnaryOperator)
    least, most = card.domain(node)
    finite = np.isfinite(low) & np.isfinite(high) & (low >= least) & (high <= most)
    safe_low, safe_high = np.where(finite, low, 0.0), np.where(finite, high, 0.0)
    with np.errstate(all="ignore"):
        if node.op in ("relu", "abs", "leaky_relu"):
            found = _kinked(node, safe_low, safe_high, degree)
        else:
            found = _smooth(node, safe_low, safe_high, degree)
    error = np.where(finite & np.isfinite(found.error) & np.isfinite(found.coefficients).all(0), found.error, np.inf)
    return Fit(found.center, np.where(np.isfinite(found.coefficients), found.coefficients, 0.0), error)


def _smooth(node: Node, low: Array, high: Array, degree: int) -> Fit:
    found = _taylor(node, low, high, degree)
    if found is None:
        return _cells(node, low, high, degree)
    width = 0.5 * (high - low)
    slope = abs(found.coefficients[1]) * width
    wide = ~(found.error <= LOOSE * slope) & (width > 1e-6)
    if not wide.any():
        return found
    other = _cells(node, low[wide], high[wide], degree)
    better = other.error < np.where(np.isnan(found.error[wide]), np.inf, found.error[wide])
    coefficients, error = found.coefficients.copy(), found.error.copy()
    coefficients[:, wide] = np.where(better, _padded(other.coefficients, len(coefficients)), coefficients[:, wide])
    error[wide] = np.where(better, other.error, error[wide])
    return Fit(found.center, coefficients, error)


def _padded(coefficients: Array, count: int) -> Array:
    more = np.zeros((count - len(coefficients), *coefficients.shape[1:]))
    return np.concatenate([coefficients, more])


def _taylor(node: Node, low: Array, high: Array, degree: int) -> Fit | None:
    """Taylor's polynomial of degree + 1 at the middle, whose last term is replaced by lower ones (Chebyshev economisation)."""
    middle = _middle(low, high)
    points = series(node, middle, middle, degree + 1)
    if points is None:
        return None
    rest = series(node, low, high, degree + 2)
    assert rest is not None
    w = np.maximum(high - middle, middle - low) * (1 + 4 * _U)
    powers = [np.maximum(w**i, _TINY) for i in range(degree + 3)]  # never less than what underflow leaves of them
    coefficients = np.stack([0.5 * a + 0.5 * b for a, b in points[: degree + 1]])
    error = np.maximum(abs(rest[-1][0]), abs(rest[-1][1])) * powers[degree + 2]
    size = abs(coefficients[0])
    for i, (a, b) in enumerate(points[: degree + 1]):
        error = error + (b - a) * powers[i]
        size = size + abs(coefficients[i]) * powers[i]
    # the last term: a (z - c)^n = a w^n t^n, and t^n minus a polynomial of degree n - 1 is at most 2^(1-n)
    a, b = points[-1]
    last = 0.5 * a + 0.5 * b
    error = error + np.maximum(abs(a), abs(b)) * powers[degree + 1] * 2.0**-degree
    lower = _economised(degree + 1)
    for i in range(degree + 1):
        if lower[i]:
            coefficients[i] = coefficients[i] + lower[i] * last * w ** (degree + 1 - i)
            # the coefficient as stored may be off by its rounding; (b - a) above covers the doubt about ``last``
            error = (
                error
                + 64 * (degree + 4) * _U * abs(lower[i] * last) * powers[degree + 1]
                + abs(lower[i]) * (b - a) * powers[degree + 1]
            )
    return Fit(middle, coefficients, (error + 16 * (degree + 2) * _U * size) * (1 + 128 * _U) + _TINY)


def _middle(low: Array, high: Array) -> Array:
    return np.clip(0.5 * low + 0.5 * high, low, high)


@lru_cache(maxsize=32)
def _economised(n: int) -> tuple[float, ...]:
    """Coefficients q of t^n - 2^(1-n) T_n(t): t^n is q(t) up to 2^(1-n) on [-1, 1]; exact in float64 for the small n used."""
    from numpy.polynomial import chebyshev

    T = chebyshev.cheb2poly([0.0] * n + [1.0])
    return tuple(float(-c * 2.0 ** (1 - n)) for c in T[:n])


@lru_cache(maxsize=32)
def _least_squares(degree: int) -> tuple[Array, Array]:
    """Chebyshev nodes on [-1, 1], and the matrix from values there to the coefficients of a polynomial."""
    count = 2 * degree + 4
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    weights = 1.0 / np.sqrt(np.sqrt(np.maximum(1 - nodes**2, 1e-9)))  # leans to the ends, as equal ripples do
    V = np.vander(nodes, degree + 1, increasing=True)
    return nodes, np.linalg.pinv(V * weights[:, None]) * weights


def _cells(node: Node, low: Array, high: Array, degree: int) -> Fit:
    """A least-squares polynomial, compared with the function on cells of the range."""
    card = OPERATORS[node.op]
    assert isinstance(card, UnaryOperator)
    degree = min(degree, FITTED)
    middle = _middle(low, high)
    w = np.maximum(high - middle, middle - low) * (1 + 4 * _U)
    scale = np.maximum(w, 1e-300)
    nodes, solve = _least_squares(degree)
    sample = np.clip(middle + scale * nodes.reshape(-1, *([1] * low.ndim)), low, high)
    values = card.function(np, node, sample)
    normal = np.tensordot(solve, values, axes=1)  # in t = (z - c) / w
    coefficients = normal / scale ** np.arange(degree + 1).reshape(-1, *([1] * low.ndim))
    share = (np.arange(CELLS + 1) / CELLS).reshape(-1, *([1] * low.ndim))
    ends = low + (high - low) * share
    ends[0], ends[-1] = low, high
    powers = [np.ones_like(w)]
    for _ in range(degree):
        powers.append(powers[-1] * w)
    if node.op in _CURVED:
        least, most, slack = _through_points(node.op, ends, middle, coefficients, powers)
    else:
        lines = card.relax(np, node, ends[:-1], ends[1:], FLOAT64)
        least, most, slack = _through_lines(lines, ends, middle, coefficients, powers)
    center = 0.5 * most + 0.5 * least
    coefficients[0] = coefficients[0] + center
    error = np.maximum(most - center, center - least) + slack + 8 * _U * abs(coefficients[0])
    return Fit(middle, coefficients, error * (1 + 32 * _U) + _TINY)


def _through_points(
    op: str, ends: Array, middle: Array, coefficients: Array, powers: list[Array]
) -> tuple[Array, Array, Array]:
    """Bounds of the function minus the polynomial, and of their rounding: between two ends of a cell of width h a function is off its
    chord by at most h^2 / 8 times its largest second derivative, which the third one bounds from the ends."""
    value, curvature, third = _CURVED[op]
    degree = len(coefficients) - 1
    z = ends - middle
    p, second = coefficients[degree] * np.ones_like(z), np.zeros_like(z)
    for i in range(degree - 1, -1, -1):
        p = p * z + coefficients[i]
    for i in range(degree, 1, -1):
        second = second * z + i * (i - 1) * coefficients[i]
    low, high = value.bounds(np, ends, FLOAT64)
    bent_low, bent_high = curvature.bounds(np, ends, FLOAT64)
    twist = third + sum(
        (i * (i - 1) * (i - 2) * abs(coefficients[i]) * powers[i - 3] for i in range(3, degree + 1)), 0.0
    )
    size = sum((abs(coefficients[i]) * powers[i] for i in range(degree + 1)), np.abs(high).max(0))
    bending = sum(
        (i * (i - 1) * abs(coefficients[i]) * powers[i - 2] for i in range(2, degree + 1)), np.ones_like(middle)
    )
    h = ends[1:] - ends[:-1]
    bent = np.maximum(abs(bent_high - second), abs(bent_low - second))
    bulge = (
        (np.maximum(bent[1:], bent[:-1]) + 0.5 * h * twist + 64 * degree * degree * _U * bending) * (h * h + _TINY) / 8
    )
    above, below = high - p, low - p
    most = (np.maximum(above[1:], above[:-1]) + bulge * (1 + 1e-9)).max(0)
    least = (np.minimum(below[1:], below[:-1]) - bulge * (1 + 1e-9)).min(0)
    return least, most, 64 * (degree + 4) * _U * size + 64 * _TINY * (1 + powers[1] + powers[-1])


def _through_lines(
    lines: Relaxation, ends: Array, middle: Array, coefficients: Array, powers: list[Array]
) -> tuple[Array, Array, Array]:
    """The same from lines below and above the function on each cell."""
    degree, w = len(coefficients) - 1, powers[1]
    curvature = sum(
        (i * (i - 1) * abs(coefficients[i]) * powers[i - 2] for i in range(2, degree + 1)), np.zeros_like(w)
    )
    size = sum((abs(coefficients[i]) * powers[i] for i in range(degree + 1)), np.zeros_like(w))
    widest = (ends[1:] - ends[:-1]).max(0)  # not a share of the range where that is a few numbers wide
    bulge = curvature * (widest**2 + _TINY) / 8
    most, least = np.full_like(w, -np.inf), np.full_like(w, np.inf)
    for at in (ends[:-1], ends[1:]):
        p = coefficients[degree] * np.ones_like(at)
        for i in range(degree - 1, -1, -1):
            p = p * (at - middle) + coefficients[i]
        most = np.maximum(most, (lines.upper_slope * at + lines.upper_shift - p).max(0))
        least = np.minimum(least, (lines.lower_slope * at + lines.lower_shift - p).min(0))
        reach = (
            (abs(lines.upper_slope) + abs(lines.lower_slope)) * abs(at)
            + abs(lines.upper_shift)
            + abs(lines.lower_shift)
        )
        size = np.maximum(size, size + reach.max(0))
    slack = bulge * (1 + 1e-9) + 64 * (degree + 4) * _U * size + 64 * _TINY * (1 + w + powers[-1])
    return least, most, slack


def _kinked(node: Node, low: Array, high: Array, degree: int) -> Fit:
    """relu, and what is made of it: exact on one side of the kink, a parabola (a line: degree 1) across it."""
    middle = _middle(low, high)
    below, above = np.maximum(-low, 0.0), np.maximum(high, 0.0)
    crossing = (low < 0) & (high > 0)
    if degree >= 2:
        # equal ripples at both ends, at the kink and at the vertices; mirrored where the left part is longer
        short, long = np.minimum(below, above), np.maximum(below, above)
        c = np.where(
            2 * short >= long,
            0.5 / np.where(long > 0, long, 1.0),
            short / np.where(long > 0, (0.5 * long + short) ** 2, 1.0),
        )
        b = 1 - c * long
        b = np.where(below > above, 1 - b, b)
        a = c * long * long / 8
    else:
        b = above / np.where(crossing, above + below, 1.0)
        c, a = np.zeros_like(b), 0.5 * b * below
    b = np.where(crossing, b, np.where(high > 0, 1.0, 0.0))
    a, c = np.where(crossing, a, 0.0), np.where(crossing, c, 0.0)
    # relu(z) - (a + b z + c z^2): -p left of the kink, z - p right of it; extreme at ends and vertices
    inner = np.where(c > 0, c, 1.0)
    left, right = np.clip(-b / (2 * inner), low, 0.0), np.clip((1 - b) / (2 * inner), 0.0, high)
    error = abs(a)
    for z in (low, left, high, right):
        p = a + b * z + c * z * z
        error = np.maximum(error, abs(np.maximum(z, 0.0) - p))
    # a vertex that is computed a little off is off by less than c (delta z)^2
    size = a + abs(b) * (below + above) + c * (below + above) ** 2 + above
    error = np.where(crossing, error + 64 * _U * size + 4 * _TINY, 0.0)
    if node.op == "abs":
        a, b, c, error = 2 * a, 2 * b - 1, 2 * c, 2 * error
    elif node.op == "leaky_relu":
        alpha = float(node["alpha"])
        a, b, c, error = (1 - alpha) * a, alpha + (1 - alpha) * b, (1 - alpha) * c, abs(1 - alpha) * error
        error = error + 16 * _U * (1 + abs(alpha)) * size
    # to powers of z - middle
    coefficients = np.stack([a + b * middle + c * middle * middle, b + 2 * c * middle, c][: max(2, min(degree, 2) + 1)])
    moved = 16 * _U * (abs(a) + abs(b * middle) + abs(c) * middle**2 + (abs(b) + 2 * abs(c * middle)) * (high - low))
    exact = (~crossing) & (node.op != "leaky_relu")
    return Fit(middle, coefficients, np.where(exact & (b == 0), 0.0, error + moved + _TINY) * (1 + 32 * _U))
