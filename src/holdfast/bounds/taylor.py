"""Taylor models through graphs: networks, formulas of plants and of properties, layer by layer.

Linear operators act on the coefficients; functions are replaced by polynomials with a remainder, which may become a symbol of its
own, so that errors of one neuron stay correlated until the output. Huang, Fan, Chen, Li, Zhu, POLAR: a polynomial arithmetic framework
for verifying neural-network controlled systems, ATVA 2022 (polynomials and symbolic remainders).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.graph import Node
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator, UnaryOperator
from holdfast.operators.series import series
from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.taylor_model import TaylorModel, aligned, constant, multiply, scaled, shifted, with_symbols

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
CELLS = 16  # of a range on which the fitted polynomial is compared with the function
LOOSE = 1e-3  # of the size of the linear term: a remainder of Taylor's formula above this is worth a fit
FITTED = 6  # highest degree of a fit
WORSE = 0.05  # of the range: a loss above this may be smaller with a lower degree
EXCESS = 0.5  # weight of a range that is too large, against an error


@dataclass(frozen=True, eq=False)
class Fit:
    """g(z) = sum_i coefficients_i (z - center)^i +- error on a range; ``coefficients`` (d + 1, B, *shape)."""

    center: Array
    coefficients: Array
    error: Array


def propagate_models(
    problem: Problem, value: TaylorModel, symbolic: bool = False, shares: list[Array] | None = None
) -> TaylorModel:
    """The graph's output for inputs in ``value`` (B, n); ``symbolic``: remainders of functions become symbols before linear layers.

    ``shares`` receives for each group of new symbols (count, B, V): how much each variable widens what they are remainders of.
    """
    at: list[TaylorModel] = []
    graph = problem.graph
    batch = len(value.error)
    symbols = value.symbols
    last = {i: position for position, node in enumerate(graph.nodes) for i in node.inputs}
    for position, node in enumerate(graph.nodes):
        if node.op == INPUT:
            at.append(_shaped(value, node.shape))
            continue
        card = OPERATORS[node.op]
        inputs = [at[i] for i in node.inputs]
        if isinstance(card, LinearOperator):
            if symbolic and not card.exact and card.terms(node, problem.weights(position)) > 1:
                inputs, symbols = _symbolic(inputs, symbols, shares)
            at.append(linear(problem, position, inputs, value, batch))
        elif isinstance(card, ProductOperator):
            at.append(multiply(*inputs))
        else:
            at.append(function(node, inputs[0]))
        for i in node.inputs:
            if last[i] == position and i not in graph.outputs:
                at[i] = value  # frees memory: nobody reads it any more
    return at[graph.outputs[0]]


def _shaped(model: TaylorModel, shape: tuple[int, ...]) -> TaylorModel:
    batch = len(model.error)
    return TaylorModel(model.basis, model.terms.reshape(-1, batch, *shape), model.error.reshape(batch, *shape))


def _symbolic(inputs: list[TaylorModel], symbols: int, shares: list[Array] | None) -> tuple[list[TaylorModel], int]:
    """Errors that matter become symbols."""
    found = []
    for model in inputs:
        flat = model.error.reshape(len(model.error), -1)
        if not np.isfinite(flat).all():
            found.append(model)
            continue
        floor = 1e-13 * (1e-30 + abs(model.terms[0]).reshape(flat.shape).max(1, keepdims=True))
        chosen = np.flatnonzero((flat > floor).any(0))
        if len(chosen):
            total = symbols + len(chosen)
            if shares is not None:
                linear = abs(model.terms[1 : 1 + model.basis.variables]).reshape(model.basis.variables, *flat.shape)
                part = linear[:, :, chosen].transpose(2, 1, 0)
                shares.append(part / np.maximum(part.sum(2, keepdims=True), 1e-300))
            model = with_symbols(model, chosen, symbols, total)
            symbols = total
        found.append(model)
    return found, symbols


def linear(
    problem: Problem, position: int, inputs: list[TaylorModel], like: TaylorModel, batch: int, shift: bool = True
) -> TaylorModel:
    """A linear operator on the coefficients; ``shift``: with its constant part."""
    node, basis = problem.graph[position], like.basis
    card, weights, doubts = OPERATORS[node.op], problem.weights(position), problem.doubts(position)
    assert isinstance(card, LinearOperator)
    bias = card.bias(np, node, weights) if shift else None
    full = (batch, *node.shape)
    if not inputs and not shift:
        return constant(basis, np.zeros(full), np.zeros(full))
    if not inputs:
        value = np.broadcast_to(card.linear(np, node, weights, []) if bias is None else bias, full)
        radius = (
            np.zeros(full)
            if doubts is None
            else np.broadcast_to(np.asarray(card.bias(np, node, doubts)), full) * (1 + 8 * _U)
        )
        return constant(basis, value - radius, value + radius)
    inputs = aligned(inputs)
    terms = card.linear(np, node, weights, [m.terms for m in inputs])
    error = card.magnitude(np, node, weights, [m.error for m in inputs])
    if card.exact and doubts is None:
        return TaylorModel(basis, terms, error)
    sizes = [m.size for m in inputs]
    size = card.magnitude(np, node, weights, sizes)
    count = card.terms(node, weights)
    if bias is not None:
        terms = np.array(terms)
        terms[0] = terms[0] + bias
        size = size + abs(bias)
    lost = gamma(count + len(terms) + 6, FLOAT64) * size + 4.0 * (count + 4) * (len(terms) + 1) * _TINY
    if doubts is not None:
        own = card.bias(np, node, doubts) if shift else None
        lost = lost + card.magnitude(np, node, doubts, sizes) * (1 + gamma(count + 4, FLOAT64))
        lost = lost if own is None else lost + own
    return TaylorModel(basis, terms, (error + lost) * (1 + 2 * gamma(count + 8, FLOAT64)))


def function(node: Node, z: TaylorModel) -> TaylorModel:
    """A function of one variable, element by element: by the polynomial of a degree that leaves the smaller error."""
    low, high = z.range()
    degree = max(z.basis.degree, 1)
    result = _composed(fit(node, low, high, degree), z)
    card = OPERATORS[node.op]
    assert isinstance(card, UnaryOperator)
    least, most = card.interval(np, node, low, high, FLOAT64)
    loss = _loss(result, least, most)
    for lower in (3, 2, 1):
        if lower >= degree:
            continue
        loose = ~(loss <= WORSE * (most - least))
        if not loose.any():
            break
        other = _composed(fit(node, low[loose], high[loose], lower), _elements(z, loose))
        its = _loss(other, least[loose], most[loose])
        chosen = ~(loss[loose] <= its)
        better = loose.copy()
        better[loose] = chosen
        terms, error = result.terms.copy(), result.error.copy()
        terms[:, better], error[better], loss[better] = other.terms[:, chosen], other.error[chosen], its[chosen]
        result = TaylorModel(z.basis, terms, error)
    return result


def _loss(result: TaylorModel, least: Array, most: Array) -> Array:
    """How much worse a model is than the function itself: its error, and by what it exceeds the range."""
    low, high = result.range()
    return result.error + EXCESS * np.maximum((high - low) - (most - least), 0.0)


def _elements(z: TaylorModel, chosen: Array) -> TaylorModel:
    """The chosen elements (a mask over (B, *shape)) as a batch of single numbers."""
    return TaylorModel(z.basis, z.terms[:, chosen], z.error[chosen])


def _composed(best: Fit, z: TaylorModel) -> TaylorModel:
    """The polynomial at z, by Horner's rule, and its error."""
    y = shifted(z, -best.center)
    coefficients = best.coefficients
    total: TaylorModel | None = None
    for i in range(len(coefficients) - 1, 0, -1):
        if total is None:
            if i > 1 and not coefficients[i].any():
                continue
            total = scaled(y, coefficients[i])
        else:
            total = multiply(shifted(total, coefficients[i]), y)
    assert total is not None
    total = shifted(total, coefficients[0])
    return TaylorModel(total.basis, total.terms, (total.error + best.error) * (1 + 4 * _U))


def fit(node: Node, low: Array, high: Array, degree: int) -> Fit:
    """A polynomial of at most this degree in place of the function on [low, high], and a bound of the difference."""
    finite = np.isfinite(low) & np.isfinite(high)
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
    middle = 0.5 * low + 0.5 * high
    points = series(node, middle, middle, degree + 1)
    if points is None:
        return None
    rest = series(node, low, high, degree + 2)
    assert rest is not None
    w = np.maximum(high - middle, middle - low) * (1 + 4 * _U)
    coefficients = np.stack([0.5 * a + 0.5 * b for a, b in points[: degree + 1]])
    error = np.maximum(abs(rest[-1][0]), abs(rest[-1][1])) * w ** (degree + 2)
    size = abs(coefficients[0])
    for i, (a, b) in enumerate(points[: degree + 1]):
        error = error + (b - a) * w**i
        size = size + abs(coefficients[i]) * w**i
    # the last term: a (z - c)^n = a w^n t^n, and t^n minus a polynomial of degree n - 1 is at most 2^(1-n)
    a, b = points[-1]
    last = 0.5 * a + 0.5 * b
    error = error + np.maximum(abs(a), abs(b)) * w ** (degree + 1) * 2.0**-degree
    lower = _economised(degree + 1)
    for i in range(degree + 1):
        if lower[i]:
            coefficients[i] = coefficients[i] + lower[i] * last * w ** (degree + 1 - i)
            # the coefficient as stored may be off by its rounding; (b - a) above covers the doubt about ``last``
            error = (
                error
                + 64 * (degree + 4) * _U * abs(lower[i] * last) * w ** (degree + 1)
                + abs(lower[i]) * (b - a) * w ** (degree + 1)
            )
    return Fit(middle, coefficients, (error + 16 * (degree + 2) * _U * size) * (1 + 128 * _U) + _TINY)


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
    """A least-squares polynomial, compared with lines below and above the function on cells of the range."""
    card = OPERATORS[node.op]
    assert isinstance(card, UnaryOperator)
    degree = min(degree, FITTED)
    middle = 0.5 * low + 0.5 * high
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
    lines = card.relax(np, node, ends[:-1], ends[1:], FLOAT64)
    powers = [np.ones_like(w)]
    for _ in range(degree):
        powers.append(powers[-1] * w)
    curvature = sum(
        (i * (i - 1) * abs(coefficients[i]) * powers[i - 2] for i in range(2, degree + 1)), np.zeros_like(w)
    )
    size = sum((abs(coefficients[i]) * powers[i] for i in range(degree + 1)), np.zeros_like(w))
    bulge = curvature * ((high - low) / CELLS * (1 + 1e-9)) ** 2 / 8
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
    slack = bulge * (1 + 1e-9) + 64 * (degree + 4) * _U * size
    center = 0.5 * most + 0.5 * least
    coefficients[0] = coefficients[0] + center
    error = np.maximum(most - center, center - least) + slack + 8 * _U * abs(coefficients[0])
    return Fit(middle, coefficients, error * (1 + 32 * _U) + _TINY)


def _kinked(node: Node, low: Array, high: Array, degree: int) -> Fit:
    """relu, and what is made of it: exact on one side of the kink, a parabola (a line: degree 1) across it."""
    middle = 0.5 * low + 0.5 * high
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
    error = np.where(crossing, error + 64 * _U * size, 0.0)
    if node.op == "abs":
        a, b, c, error = 2 * a, 2 * b - 1, 2 * c, 2 * error
    elif node.op == "leaky_relu":
        alpha = float(node["alpha"])
        a, b, c, error = (1 - alpha) * a, alpha + (1 - alpha) * b, (1 - alpha) * c, abs(1 - alpha) * error
        error = error + 16 * _U * size
    # to powers of z - middle
    coefficients = np.stack([a + b * middle + c * middle * middle, b + 2 * c * middle, c][: max(2, min(degree, 2) + 1)])
    moved = (
        16 * _U * (abs(a) + abs(b) * abs(middle) + c * middle * middle + (abs(b) + 2 * c * abs(middle)) * (high - low))
    )
    exact = (~crossing) & (node.op != "leaky_relu")
    return Fit(middle, coefficients, np.where(exact & (b == 0), 0.0, error + moved) * (1 + 32 * _U))
