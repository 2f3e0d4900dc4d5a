"""ONNX nodes -> builder nodes: the table of operators and the walk over a network's live nodes.

Third step of loading. Constants are folded first; unsupported nodes are collected, so that one message names all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.errors import ModelError
from holdfast.load.constants import FLOATS, Constant
from holdfast.load.context import Context, Lowered, NotSupported, OnnxNode, Rule
from holdfast.load.folding import FOLDS, ROUNDING
from holdfast.load.lowering_arithmetic import ARITHMETIC
from holdfast.load.lowering_extremum import EXTREMUM
from holdfast.load.lowering_linear import LINEAR
from holdfast.load.lowering_structural import STRUCTURAL
from holdfast.operators import OPERATORS
from holdfast.transforms.evaluate import evaluate


def _constant(ctx: Context, x: Sequence[Any]) -> Lowered:
    attributes = ctx.node.attributes
    if "value" in attributes:
        return attributes["value"]
    for key, dtype in (
        ("value_float", "float32"),
        ("value_floats", "float32"),
        ("value_int", "int64"),
        ("value_ints", "int64"),
    ):
        if key in attributes:
            return Constant(np.array(attributes[key], np.float64 if dtype in FLOATS else dtype), None, dtype)
    raise NotSupported(f"with {', '.join(attributes) or 'no value'}")


def _shape(ctx: Context, x: Sequence[Any]) -> Lowered:
    shape = ctx.shape(x[0])[slice(ctx.node.get("start", 0), ctx.node.get("end"))]
    return Constant(np.array(shape, np.int64), None, "int64")


def _size(ctx: Context, x: Sequence[Any]) -> Lowered:
    return Constant(np.array(int(np.prod(ctx.shape(x[0]), dtype=np.int64))), None, "int64")


RULES: dict[str, Rule] = {
    **ARITHMETIC, **STRUCTURAL, **LINEAR, **EXTREMUM, "Constant": Rule(_constant), "Shape": Rule(_shape), "Size": Rule(_size),
}  # fmt: skip
_LENIENT = (ValueError, IndexError, KeyError, TypeError, AttributeError, ArithmeticError, MemoryError)


def supported(op: str) -> bool:
    """Whether some form of the operator can be lowered (others may be refused)."""
    return (op in RULES and all(card in OPERATORS for card in RULES[op].cards)) or op in FOLDS


@dataclass(frozen=True, eq=False)
class Lowering:
    """What the walk leaves: values and element types by tensor name, and the nodes without a translation."""

    context: Context
    values: Mapping[str, int | Constant]
    dtypes: Mapping[str, str]
    missing: Mapping[str, list[str]]


def lower(
    where: str,
    opset: int,
    inputs: Mapping[str, tuple[tuple[int, ...], str]],
    constants: Mapping[str, Constant],
    nodes: Sequence[OnnxNode],
) -> Lowering:
    """Lower nodes (in an order in which every input is known before it is read).

    ``inputs``: shape and element type of the variables; ``constants``: the initializers, by name (looked up when
    first read). Raises ModelError where a node makes no sense; nodes that cannot be translated are in ``missing``.
    """
    labels = Counter(node.label for node in nodes)
    ctx = Context(opset, repeated=frozenset(name for name, count in labels.items() if count > 1))
    values: dict[str, int | Constant] = {}
    dtypes: dict[str, str] = {}
    missing: dict[str, list[str]] = {}
    for name, (shape, dtype) in inputs.items():
        values[name], dtypes[name] = ctx.builder.input(shape, name), dtype
    unknown: set[str] = set()
    for node in nodes:
        label = node.label
        for name in node.inputs:
            if name and name not in values and name not in unknown:
                values[name] = constants[name]
                dtypes[name] = values[name].dtype  # type: ignore[union-attr]
        foreign = node.domain not in ("", "ai.onnx")
        blocked = any(name in unknown for name in node.inputs)
        try:
            if foreign:
                raise NotSupported
            if not supported(node.op):
                raise NotSupported
            if blocked and node.op not in RULES:
                raise NotSupported("of a variable")
            if blocked:  # its inputs have no known shape: nothing more can be said
                unknown.update(node.outputs)
                continue
            arguments = [values[name] if name else None for name in node.inputs]
            ctx.node, ctx.part = node, 0
            ctx.dtype = next((dtypes[name] for name in node.inputs if name), "float32")
            with np.errstate(all="ignore"):  # what is not finite is refused when it becomes a parameter
                results = _lower_node(ctx, arguments)
        except NotSupported as reason:
            kind = f"{node.domain}.{node.op}" if foreign else node.op
            missing.setdefault(f"{kind} {reason}".strip(), []).append(label)
            unknown.update(node.outputs)
            continue
        except _LENIENT as fault:
            sentence = str(fault) or type(fault).__name__
            if isinstance(fault, KeyError):
                sentence = f"its attribute {fault} is missing"
            raise ModelError(f"{where}: node '{label}' ({node.op}): {' '.join(sentence.split())[:400]}") from fault
        for name, result in zip(node.outputs, results, strict=False):
            if name:
                values[name] = result
                dtypes[name] = result.dtype if isinstance(result, Constant) else _result_type(ctx, node)
        if len(results) < sum(1 for o in node.outputs if o):
            missing.setdefault(f"{node.op} with {len(node.outputs)} outputs", []).append(label)
            unknown.update(o for o in node.outputs if o not in values)
    return Lowering(ctx, values, dtypes, missing)


def _result_type(ctx: Context, node: OnnxNode) -> str:
    from holdfast.load.tensors import element_type

    if node.op == "Cast":
        return element_type(node.get("to", 0)) or ctx.dtype
    return ctx.dtype if ctx.dtype in FLOATS else "float32"


def _lower_node(ctx: Context, arguments: list[Any]) -> tuple[int | Constant, ...]:
    op = ctx.node.op
    least = 0 if op == "Constant" else 1
    if len([a for a in arguments if a is not None]) < least or (arguments and arguments[0] is None):
        raise ValueError("it has no input")
    constant = all(isinstance(a, Constant) or a is None for a in arguments)
    result: Lowered | None = None
    if constant and op in FOLDS:
        result = FOLDS[op](ctx, arguments)
        if isinstance(result, Constant) and op in ROUNDING and not result.representable:
            ctx.rounded.append(ctx.node.name or next((o for o in ctx.node.outputs if o), op))
    rule = RULES.get(op)
    if result is None and rule is None:
        raise NotSupported("of a variable")
    if result is None and rule is not None:
        result = _evaluated(ctx, rule, arguments) if constant and rule.structural else rule.lower(ctx, arguments)
    if result is None:
        raise NotSupported
    return result if isinstance(result, tuple) else (result,)


def _evaluated(ctx: Context, rule: Rule, arguments: Sequence[Any]) -> Lowered:
    """A structural operator on constants: lowered in a graph of its own, which is evaluated at once."""
    many = ctx.node.op == "Concat"
    data = [i for i, a in enumerate(arguments) if a is not None and (many or i == 0)]
    scratch = Context(ctx.opset, node=ctx.node, dtype=ctx.dtype)
    replaced = list(arguments)
    for i in data:
        replaced[i] = scratch.builder.input(arguments[i].shape)
    lowered = rule.lower(scratch, replaced)
    outputs = [v for v in (lowered if isinstance(lowered, tuple) else (lowered,)) if isinstance(v, int)]
    graph, parameters = scratch.builder.build(outputs)
    sources = [arguments[i] for i in data]

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        values = evaluate(graph, parameters, arrays)
        return [np.asarray(values[position]) for position in outputs]

    results = run([s.value for s in sources])
    radii: list[Any] = [None] * len(results)
    if not all(s.exact for s in sources):
        radii = run([np.zeros(s.shape) if s.exact else s.radius for s in sources])
    return tuple(Constant(v, r, sources[0].dtype, sources[0].name) for v, r in zip(results, radii, strict=True))
