"""Why a bound is infinite: the nodes whose input may meet a pole (1 / z at zero, tan at odd multiples of pi / 2).

An infinite range is sound, and splitting the box may end it, so the pass goes on; who gives up asks here for the reason.
"""

from __future__ import annotations

from holdfast.bounds.enclosure import Enclosures
from holdfast.operators import OPERATORS, UnaryOperator


def poles(state: Enclosures) -> tuple[str, ...]:
    """One sentence per node of a finished pass whose input may meet a pole on some box of the batch."""
    problem = state.problem
    found = []
    for position, node in enumerate(problem.graph.nodes[: len(state.lower)]):
        card = OPERATORS.get(node.op)
        if not isinstance(card, UnaryOperator):
            continue
        low, high = state.lower[node.inputs[0]], state.upper[node.inputs[0]]
        where = card.undefined(problem.xp, node, low, high, problem.arithmetic)
        if bool(where.any()):
            first, last = float(low[where].min()), float(high[where].max())
            found.append(
                f"node {node.name or f'{position} ({node.op})'}: {node.op} may have a pole in [{first:g}, {last:g}], "
                "where its input may lie; accepted are regions that keep it away from its poles"
            )
    return tuple(found)
