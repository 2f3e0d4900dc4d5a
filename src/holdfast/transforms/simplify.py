"""An equal model with fewer nodes: dead and idle nodes dropped, chains of affine and structural nodes joined.

Exact over the reals: a constant that a merge cannot hold in float64 carries a radius. Not for float32 semantics,
where every node of the file rounds on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.graph import Model
from holdfast.operators import INPUT
from holdfast.rigor.accurate import Ball
from holdfast.transforms.affine_rules import AFFINE_RULES, bias_after_dense, dense_of_dense
from holdfast.transforms.compose import live_nodes
from holdfast.transforms.rewriting import Draft, Rule, Step
from holdfast.transforms.structural_rules import STRUCTURAL_RULES

_SWEEPS = 8  # a sweep follows another while it finds something; two are usual


@dataclass(frozen=True, eq=False)
class Simplified:
    """The smaller ``model``, and the way back to the original.

    ``origin``: for each node the node of the original graph that has the same value, up to its shape (None where
    there is none), so that what is found out about a node can be told in the words of the file.
    """

    model: Model
    origin: tuple[int | None, ...]

    def invert(self, inputs: Sequence[Any]) -> tuple[Any, ...]:
        """Inputs of the original model from inputs of the simplified one: the same, since no merge touches a variable."""
        return tuple(inputs)


def simplify(model: Model, *, multiply: bool = True, executed: bool = False) -> Simplified:
    """The same function over the reals, with the inputs and outputs of ``model`` and shared constants where possible.

    ``multiply``: whether matrices that follow each other become one. Intervals of what they give are tighter then than
    those of the layers as they are, which is no good where another program is to find the same ones. ``executed``: only
    what leaves the float32 executions as they are, a product and its bias as one sum.
    """
    affine = [rule for rule in AFFINE_RULES if multiply or rule is not dense_of_dense]
    rules = (bias_after_dense,) if executed else (*STRUCTURAL_RULES, *affine)
    current = model
    origin: tuple[int | None, ...] = tuple(range(len(model.graph)))
    for _ in range(_SWEEPS):
        swept, sources = _sweep(current, rules)
        origin = tuple(None if i is None else origin[i] for i in sources)
        settled = swept.graph == current.graph
        current = swept
        if settled:
            break
    return Simplified(current, origin)


def _sweep(model: Model, rules: Sequence[Rule]) -> tuple[Model, tuple[int | None, ...]]:
    graph = model.graph
    live = live_nodes(graph)
    draft = Draft(tuple(rules))
    balls = {key: Ball(value, model.radii.get(key)) for key, value in model.parameters.items()}
    placed: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        if not live[position]:
            continue
        if node.op == INPUT:
            placed[position] = draft.input(node.shape, node.name, position)
        else:
            step = Step(
                node.op, tuple(placed[i] for i in node.inputs), node.shape, tuple(balls[k] for k in node.parameters),
                node.attributes, node.rounds, node.name, position, node.part,
            )  # fmt: skip
            placed[position] = draft.emit(step)
        readers = sum(live[reader] for reader in graph.consumers[position]) + graph.outputs.count(position)
        draft.use(placed[position], readers)
    inputs = [placed[i] for i in graph.inputs]
    builder, outputs, order = draft.rebuild(inputs, [placed[i] for i in graph.outputs])
    rebuilt, parameters = builder.build(outputs)
    swept = replace(model, graph=rebuilt, parameters=parameters, radii=dict(builder.radii))
    return swept, tuple(draft[position].origin for position in order)
