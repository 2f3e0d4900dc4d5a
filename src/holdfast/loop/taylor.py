"""Taylor coefficients of a plant's solutions while its inputs are held: derivatives along the flow, as graphs.

L^0 x = x, L^1 x = f, L^(j+1) x = (d L^j x / dx) f, each a Model of the signals. First station of a sampled loop
(`holdfast.loop.sampled`). Moore, Interval Analysis, 1966, chapter 11; Nedialkov, Jackson, Corliss, Validated solutions of
initial value problems for ordinary differential equations, Applied Mathematics and Computation 105, 1999.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from holdfast.graph import Model, Tensor
from holdfast.operators import GraphBuilder
from holdfast.spec.plant import Plant
from holdfast.spec.region import number
from holdfast.transforms import directional_derivative, embed, simplify
from holdfast.transforms.compose import add_inputs, finish

_KINKS = ("heaviside",)  # appears in the derivative of what is Lipschitz but not smooth
_LINEAR = (
    "input", "dense", "scale", "add", "constant", "concat", "slice", "gather", "reshape", "transpose", "pad", "expand", "reduce_sum",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FlowDerivatives:
    """``derivatives[j]``: L^(j+1) x, Model (signals,) -> (n,). ``linear``: the plant is affine in all its signals."""

    derivatives: tuple[Model, ...]
    linear: bool

    def smooth(self, order: int) -> bool:
        """Whether Taylor's formula of that order holds: all derivatives below it are locally Lipschitz."""
        return not any(node.op in _KINKS for m in self.derivatives[: order - 1] for node in m.graph.nodes)


def flow_derivatives(plant: Plant, known: FlowDerivatives | None = None) -> FlowDerivatives:
    """The first derivative along the flow, or one more than those ``known``; the plant's inputs are constant."""
    if known is None:
        first = simplify(plant.dynamics).model
        return FlowDerivatives((first,), all(node.op in _LINEAR for node in first.graph.nodes))
    first, last = known.derivatives[0], known.derivatives[-1]
    n, width = len(plant.signals.states), len(plant.signals)
    builder = GraphBuilder()
    (signals,) = add_inputs(builder, first)
    (f,) = embed(builder, first, [signals])
    # only states move; a matrix, so that simplification can join it with those around it
    direction = builder.add("dense", [f], [np.eye(n, width)])
    outputs = embed(builder, directional_derivative(last), [signals, direction])
    tensors = (Tensor("derivative along the flow", (n,)),)
    more = simplify(finish(builder, outputs, first.inputs, tensors, f"derivative {len(known.derivatives) + 1}")).model
    return FlowDerivatives((*known.derivatives, more), known.linear)


def weight(period: Fraction, order: int) -> Fraction:
    """period^order / order!"""
    return period**order / math.factorial(order)


def polynomial(
    builder: GraphBuilder, flow: FlowDerivatives, signals: int, states: int, period: Fraction, order: int, phase: int | None = None
) -> int:  # fmt: skip
    """sum over j < order of (phase period)^j / j! L^j x at the signals; ``phase``: position of a number (1,), None: one."""
    terms = [states]
    for j in range(1, order):
        terms.append(_term(builder, flow, signals, period, j, phase, j))
    return terms[0] if len(terms) == 1 else builder.add("add", terms, signs=(1,) * len(terms))


def increments(
    builder: GraphBuilder, flow: FlowDerivatives, signals: int, period: Fraction, order: int, phase: int
) -> int:
    """What the polynomial adds to the states, divided by the phase: sum over 0 < j < order of phase^(j - 1) period^j / j! L^j x."""
    if order == 1:
        n = flow.derivatives[0].outputs[0].shape[0]
        return builder.add("constant", [], [np.zeros(n)])
    terms = [_term(builder, flow, signals, period, j, phase, j - 1) for j in range(1, order)]
    return terms[0] if len(terms) == 1 else builder.add("add", terms, signs=(1,) * len(terms))


def _term(
    builder: GraphBuilder, flow: FlowDerivatives, signals: int, period: Fraction, j: int, phase: int | None, exponent: int
) -> int:  # fmt: skip
    (value,) = embed(builder, flow.derivatives[j - 1], [signals])
    near = number(weight(period, j))
    factor, lost = np.array(near.lower), np.array(near.upper - near.lower)
    scaled = builder.add("scale", [value], [factor, np.zeros(())], radii=[lost if lost else None, None])
    return scaled if phase is None or exponent == 0 else times_power(builder, scaled, phase, exponent)


def times_power(builder: GraphBuilder, value: int, phase: int, exponent: int) -> int:
    """phase^exponent value, component by component."""
    if exponent == 1:
        power = phase
    elif exponent == 2:
        power = builder.add("square", [phase])
    else:
        power = builder.add("power", [phase], exponent=exponent)
    return builder.add("product", [builder.add("expand", [power], shape=builder.shape(value)), value])
