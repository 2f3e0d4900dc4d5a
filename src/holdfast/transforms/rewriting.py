"""A graph while it is being simplified: steps appended one by one, each offered to rules that may replace it.

The rules themselves stand in `structural_rules` and `affine_rules`; `simplify` drives them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.graph import Node, Shape
from holdfast.operators import INPUT, OPERATORS, GraphBuilder
from holdfast.rigor.accurate import Ball


@dataclass(frozen=True, eq=False)
class Step:
    """A node with its constants at hand. ``origin``: the node of the original graph that has the same value, if any."""

    op: str
    inputs: tuple[int, ...]
    shape: Shape
    parameters: tuple[Ball, ...] = ()
    attributes: tuple[tuple[str, Hashable], ...] = ()
    rounds: bool = True
    name: str = ""
    origin: int | None = None
    part: int = 0

    def __getitem__(self, attribute: str) -> Any:
        return dict(self.attributes)[attribute]


Rule = Callable[["Draft", Step], "Step | int | None"]


def keywords(node: Node | Step) -> dict[str, Any]:
    """Attributes as keyword arguments of a builder."""
    return dict(node.attributes)


class Draft:
    """Steps in topological order. A rule returns another step, the position of an equal value, or None to pass."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)
        self._steps: list[Step] = []
        self._uses: list[int] = []
        self._equal: dict[Hashable, int] = {}

    def __getitem__(self, position: int) -> Step:
        return self._steps[position]

    def sole(self, position: int) -> bool:
        """Whether only one reader is left: replacing the step there duplicates no work."""
        return self._uses[position] <= 1

    def use(self, position: int, readers: int) -> None:
        """Counts readers of a value (too many counted is harmless: a merge waits for the next sweep)."""
        self._uses[position] += readers

    def input(self, shape: Shape, name: str, origin: int) -> int:
        """A variable; never merged, never dropped."""
        return self._append(Step(INPUT, (), shape, name=name, origin=origin))

    def emit(self, step: Step) -> int:
        """Position of the value of ``step`` after every rule has had its say; equal steps are built once."""
        while True:
            result = next((r for rule in self._rules if (r := rule(self, step)) is not None), None)
            if isinstance(result, int):
                return result
            if result is None:
                break
            step = result
        constants = tuple((id(ball.value), id(ball.radius)) for ball in step.parameters)
        key = (step.op, step.inputs, step.shape, step.attributes, constants)
        if key not in self._equal:
            self._equal[key] = self._append(step)
        return self._equal[key]

    def inner(self, step: Step) -> int:
        """`emit` for a step that a rule puts under the one it returns."""
        position = self.emit(replace(step, origin=None))
        self.use(position, 1)
        return position

    def derive(
        self, step: Step, op: str, inputs: Sequence[int], parameters: Sequence[Ball] = (), **attributes: Hashable
    ) -> Step:
        """A step that has the value of ``step`` (or stands under it), with the shape its card gives."""
        shapes = [self[i].shape for i in inputs]
        shape = OPERATORS[op].shape(shapes, [ball.value.shape for ball in parameters], attributes)
        ordered = tuple(sorted(attributes.items()))
        return Step(
            op, tuple(inputs), tuple(shape), tuple(parameters), ordered, step.rounds, step.name, step.origin, step.part
        )

    def rebuild(self, inputs: Sequence[int], outputs: Sequence[int]) -> tuple[GraphBuilder, list[int], list[int]]:
        """The part the outputs depend on, in a fresh builder; its outputs, and the draft position of each node."""
        needed = set(inputs)
        pending = list(outputs)
        while pending:
            position = pending.pop()
            if position not in needed:
                needed.add(position)
                pending.extend(self[position].inputs)
        builder, placed = GraphBuilder(), {}
        order = [*inputs, *sorted(needed - set(inputs))]  # variables first: their order is the model's
        for position in order:
            step = self[position]
            if step.op == INPUT:
                placed[position] = builder.input(step.shape, step.name)
                continue
            placed[position] = builder.add(
                step.op, [placed[i] for i in step.inputs], [ball.value for ball in step.parameters],
                radii=[ball.radius for ball in step.parameters], name=step.name, rounds=step.rounds, part=step.part,
                **keywords(step),
            )  # fmt: skip
        return builder, [placed[i] for i in outputs], order

    def _append(self, step: Step) -> int:
        self._steps.append(step)
        self._uses.append(0)
        return len(self._steps) - 1
