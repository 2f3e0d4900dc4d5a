"""Taylor models through graphs: networks, formulas of plants and of properties, layer by layer.

Linear operators act on the coefficients; functions are replaced by polynomials with a remainder, which may become a symbol of its
own, so that errors of one neuron stay correlated until the output. Huang, Fan, Chen, Li, Zhu, POLAR: a polynomial arithmetic framework
for verifying neural-network controlled systems, ATVA 2022 (polynomials and symbolic remainders).
"""

from __future__ import annotations

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.bounds.fits import Fit, fit
from holdfast.graph import Node
from holdfast.operators import INPUT, OPERATORS, LinearOperator, ProductOperator, UnaryOperator
from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.taylor_model import TaylorModel, aligned, constant, multiply, scaled, shifted, with_symbols

Array = np.ndarray
_U, _TINY = FLOAT64.unit, FLOAT64.tiny
WORSE = 0.05  # of the range: a loss above this may be smaller with a lower degree
ROUNDED = 1e-13  # of the size: a loss below this is rounding, whatever the degree
EXCESS = 0.5  # weight of a range that is too large, against an error


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
    positive = _positive(problem)
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
            at.append(function(node, inputs[0], 0.0 if node.inputs[0] in positive else -np.inf))
        for i in node.inputs:
            if last[i] == position and i not in graph.outputs:
                at[i] = value  # frees memory: nobody reads it any more
    return at[graph.outputs[0]]


def _positive(problem: Problem) -> set[int]:
    """Nodes that are never negative, by their form alone (sums of squares); looked for where a function has a domain, as roots do."""
    nodes = [(i, node, OPERATORS[node.op]) for i, node in enumerate(problem.graph.nodes) if node.op != INPUT]
    found: set[int] = set()
    if not any(isinstance(card, UnaryOperator) and card.domain(node)[0] == 0 for _, node, card in nodes):
        return found
    for i, node, card in nodes:
        fed = all(j in found for j in node.inputs)
        if isinstance(card, LinearOperator):
            weights = problem.weights(i)
            doubts = problem.doubts(i) or [np.zeros(1)] * len(weights)
            holds = fed and (node.op != "add" or min(node["signs"]) > 0)
            holds = holds and all(w.min() >= d.max() for w, d in zip(weights, doubts, strict=True))
        elif isinstance(card, UnaryOperator):
            even = node.op == "square" or (node.op == "power" and node["exponent"] % 2 == 0)
            holds = even or node.op in ("abs", "relu", "sqrt", "exp", "sigmoid", "softplus")
        else:
            holds = fed or node.inputs[0] == node.inputs[1]
        if holds:
            found.add(i)
    return found


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
        fixed = constant(basis, value, value)
        if doubts is None:
            return fixed
        return TaylorModel(basis, fixed.terms, np.zeros(full) + np.asarray(card.bias(np, node, doubts)))
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


def function(node: Node, z: TaylorModel, floor: float = -np.inf) -> TaylorModel:
    """A function of one variable, element by element: by the polynomial of a degree that leaves the smaller error.

    ``floor``: what z never is below, whatever its enclosure says.
    """
    K, symbols = len(z.basis), z.terms[len(z.basis) :]
    if len(z.terms) == 1:
        return _range(node, z, floor)
    if len(symbols) <= 1:
        return _chosen(node, z, floor)
    # all symbols as one: what a polynomial does to them is one factor per element
    together = abs(symbols).sum(0) * (1 + gamma(len(symbols), FLOAT64)) + len(symbols) * _TINY
    small = _chosen(node, TaylorModel(z.basis, np.concatenate([z.terms[:K], together[None]]), z.error), floor)
    factor = small.terms[K] / together
    terms = np.concatenate([small.terms[:K], factor * symbols])
    lost = 8 * _U * abs(small.terms[K]) + 4 * (len(symbols) + 1) * _TINY * (1 + together)
    return TaylorModel(z.basis, terms, (small.error + lost) * (1 + 8 * _U))


def _range(node: Node, z: TaylorModel, floor: float) -> TaylorModel:
    """Of intervals: there is nothing that a polynomial would keep."""
    card = OPERATORS[node.op]
    assert isinstance(card, UnaryOperator)
    low, high = z.range()
    low, high = np.maximum(low, floor), np.maximum(high, floor)
    first, last = card.domain(node)
    known = np.isfinite(low) & np.isfinite(high) & (low >= first) & (high <= last)
    with np.errstate(all="ignore"):
        least, most = card.interval(np, node, np.where(known, low, 0.0), np.where(known, high, 0.0), FLOAT64)
    known = known & np.isfinite(least) & np.isfinite(most)
    found = constant(z.basis, np.where(known, least, 0.0), np.where(known, most, 0.0))
    return TaylorModel(z.basis, found.terms, np.where(known, found.error, np.inf))


def _chosen(node: Node, z: TaylorModel, floor: float) -> TaylorModel:
    """The polynomials tried, element by element."""
    low, high = z.range()
    low, high = np.maximum(low, floor), np.maximum(high, floor)
    degree = max(z.basis.degree, 1)
    result = _composed(fit(node, low, high, degree), z)
    card = OPERATORS[node.op]
    assert isinstance(card, UnaryOperator)
    least, most = card.interval(np, node, low, high, FLOAT64)
    loss = _loss(result, least, most)
    for lower in (3, 2, 1):
        if lower >= degree:
            continue
        loose = ~(loss <= WORSE * (most - least) + ROUNDED * (abs(most) + abs(least)))
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
