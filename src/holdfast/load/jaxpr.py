"""A traced JAX function (jaxpr) -> our cards: a closed list of primitives, everything else named and refused.

Second step of `load.function`. Whatever only moves numbers (slicing, stacking, reshaping) is run on the numbers of the
variables; arithmetic on whole arrays stays on vectors. Primitives: the documentation of jax.lax.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from holdfast.load.elements import Elements, NoTranslation, Translation, Value, array_of
from holdfast.load.linear_solve import solve

_LONGEST_SCAN = 1000
_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "checkpoint", "remat")  # fmt: skip
# what moves numbers -> which operands are the numbers moved (None: all); the others say where
_MOVES: dict[str, tuple[int, ...] | None] = {
    "reshape": (0,), "squeeze": (0,), "broadcast_in_dim": (0,), "slice": (0,), "transpose": (0,), "rev": (0,),
    "dynamic_slice": (0,), "gather": (0,), "split": (0,), "unstack": (0,), "scatter": (0, 2),
    "dynamic_update_slice": (0, 1), "pad": (0, 1), "concatenate": None, "stack": None, "tile": (0,),
}  # fmt: skip
_LOG_ADD_EXP = ["max", "sub", "ne", "add", "abs", "neg", "exp", "log1p", "add", "select_n"]

Handler = Callable[[Translation, Any, Sequence[Value]], Value]


def _same(a: Value, b: Value) -> bool:
    return isinstance(a, Elements) and isinstance(b, Elements) and np.array_equal(a.ids, b.ids)


def _pow(t: Translation, params: Any, x: Sequence[Value]) -> Value:
    base, exponent = x
    if isinstance(exponent, np.ndarray):
        if not exponent.size or np.ptp(exponent):
            raise NoTranslation("with exponents that differ")
        base = (
            base
            if isinstance(base, np.ndarray)
            else Elements(np.broadcast_to(base.ids, np.broadcast_shapes(base.shape, exponent.shape)))
        )
        e = float(exponent.flat[0])
        if e.is_integer() and abs(e) <= 64:
            return t.power(base, int(e))
        if (2 * e).is_integer() and abs(e) <= 16:  # x^(n + 1/2) = sqrt(x) x^n
            root = t.unary("sqrt", base)
            n = int(abs(e))
            whole = t.multiply(root, t.power(base, n)) if n else root
            return t.unary("reciprocal", whole) if e < 0 else whole
    elif isinstance(base, np.ndarray) and np.any(base <= 0):
        raise NoTranslation("of a base that is not positive")
    return t.unary("exp", t.multiply(exponent, t.unary("log", base)))


def _compare(name: str) -> Handler:
    """A condition as a number: 1 where it holds, else 0; exact but for a tie, where bounds have everything between."""

    def lower(t: Translation, params: Any, x: Sequence[Value]) -> Value:
        a, b = x
        if name in ("eq", "ne"):
            if _same(a, b):  # the usual test for a value that is no number
                return np.full(np.shape(array_of(a)), name == "eq")
            raise NoTranslation("of variables")
        if name == "gt":
            return t.step(t.add(a, b, -1))
        if name == "lt":
            return t.step(t.add(b, a, -1))
        return t.scale(t.step(t.add(b, a, -1) if name == "ge" else t.add(a, b, -1)), -1.0, 1.0)

    return lower


def _select(t: Translation, params: Any, x: Sequence[Value]) -> Value:
    which, *cases = x
    if len(cases) != 2:
        raise NoTranslation("between more than two cases")
    if isinstance(which, np.ndarray):
        parts = [np.broadcast_to(t.elements(case).ids, which.shape or np.shape(array_of(case))) for case in cases]
        return t.settle(np.where(which, parts[1], parts[0]))
    no, yes = (case if isinstance(case, Elements) else np.asarray(case, np.float64) for case in cases)
    return t.add(no, t.multiply(which, t.add(yes, no, -1)))


def _dot(t: Translation, params: Any, x: Sequence[Value]) -> Value:
    a, b = x
    (left, right), (batch_a, batch_b) = params["dimension_numbers"]
    free_a = [i for i in range(len(a.shape)) if i not in (*left, *batch_a)]
    free_b = [i for i in range(len(b.shape)) if i not in (*right, *batch_b)]
    shapes = [tuple(v.shape[i] for i in axes) for v, axes in ((a, batch_a), (a, free_a), (b, free_b))]
    p, m, n = (int(np.prod(s, dtype=np.int64)) for s in shapes)

    def rows(v: Value, batch: Sequence[int], free: Sequence[int], inner: Sequence[int], count: int) -> np.ndarray:
        return array_of(v).transpose(*batch, *free, *inner).reshape(p, count, -1)

    first, second = rows(a, batch_a, free_a, left, m), rows(b, batch_b, free_b, right, n)
    shape = (*shapes[0], *shapes[1], *shapes[2])
    if p == 1 and (isinstance(a, np.ndarray) or isinstance(b, np.ndarray)):
        ids, matrix = (second[0], first[0]) if isinstance(a, np.ndarray) else (first[0], second[0])
        weight = np.ascontiguousarray(matrix.T, np.float64)
        rows_of = t.vector(Elements(ids))
        if ids.shape[0] > 1:
            rows_of = t.node("reshape", (rows_of,), shape=ids.shape)
        product = t.node("dense", (rows_of,), [weight])
        if ids.shape[0] > 1:
            product = t.node("reshape", (product,), shape=(ids.shape[0] * weight.shape[1],))
        out = t.shaped(product, (ids.shape[0], weight.shape[1])).ids
        return Elements((out.T if isinstance(a, np.ndarray) else out).reshape(shape))
    wide = (p, m, n, first.shape[-1])

    def spread(v: Value, r: np.ndarray) -> Value:
        r = np.broadcast_to(r, wide)
        return Elements(r) if isinstance(v, Elements) else r

    product_of = t.multiply(spread(a, first[:, :, None, :]), spread(b, second[:, None, :, :]))
    assert isinstance(product_of, Elements)  # constants alone were folded
    return Elements(array_of(t.total(product_of, (3,))).reshape(shape))


def _reduce(join: Callable[[Translation, Value, Value], Value]) -> Handler:
    """A balanced tree over the reduced axes."""

    def lower(t: Translation, params: Any, x: Sequence[Value]) -> Value:
        ids, axes = array_of(x[0]), params["axes"]
        kept = [i for i in range(ids.ndim) if i not in axes]
        shape = tuple(ids.shape[i] for i in kept)
        moved = ids.transpose(*axes, *kept).reshape(-1, *shape)
        row: list[Value] = [Elements(part) for part in moved]
        while len(row) > 1:
            row = [join(t, *row[i : i + 2]) if i + 1 < len(row) else row[i] for i in range(0, len(row), 2)]
        return row[0]

    return lower


def _convert(t: Translation, params: Any, x: Sequence[Value]) -> Value:
    wanted, found = np.dtype(params["new_dtype"]), params["from"]
    if wanted == found or wanted == np.float64 or (found.kind == "b" and wanted.kind in "iu"):
        return x[0]
    raise NoTranslation(f"from {found} to {wanted}")


def _unary(card: str) -> Handler:
    return lambda t, params, x: t.unary(card, x[0])


def _half_sum(sign: int) -> Handler:
    """cosh and sinh."""

    def lower(t: Translation, params: Any, x: Sequence[Value]) -> Value:
        both = t.add(t.unary("exp", x[0]), t.unary("exp", t.scale(x[0], -1.0)), sign)
        return t.scale(both, 0.5)

    return lower


PRIMITIVES: dict[str, Handler] = {
    **{name: _unary(name) for name in ("exp", "log", "sin", "cos", "tan", "asin", "acos", "atan", "tanh", "sqrt", "abs", "square")},
    **{name: _compare(name) for name in ("eq", "ne", "gt", "lt", "ge", "le")},
    "logistic": _unary("sigmoid"),
    "add": lambda t, p, x: t.add(x[0], x[1]),
    "add_any": lambda t, p, x: t.add(x[0], x[1]),
    "sub": lambda t, p, x: t.add(x[0], x[1], -1),
    "mul": lambda t, p, x: t.multiply(x[0], x[1]),
    "div": lambda t, p, x: t.divide(x[0], x[1]),
    "neg": lambda t, p, x: t.scale(x[0], -1.0),
    "integer_pow": lambda t, p, x: t.power(x[0], p["y"]),
    "pow": _pow,
    "exp2": lambda t, p, x: _pow(t, p, [np.array(2.0), x[0]]),
    "log1p": lambda t, p, x: t.unary("log", t.scale(x[0], 1.0, 1.0)),
    "expm1": lambda t, p, x: t.scale(t.unary("exp", x[0]), 1.0, -1.0),
    "rsqrt": lambda t, p, x: t.unary("reciprocal", t.unary("sqrt", x[0])),
    "cosh": _half_sum(1), "sinh": _half_sum(-1),
    "sign": lambda t, p, x: t.add(t.step(x[0]), t.step(t.scale(x[0], -1.0)), -1),
    "max": lambda t, p, x: t.larger(x[0], x[1]),
    "min": lambda t, p, x: t.larger(x[0], x[1], -1),
    "clamp": lambda t, p, x: t.larger(t.larger(x[1], x[0]), x[2], -1),
    "not": lambda t, p, x: t.scale(x[0], -1.0, 1.0),
    "and": lambda t, p, x: t.multiply(x[0], x[1]),
    "or": lambda t, p, x: t.add(t.add(x[0], x[1]), t.multiply(x[0], x[1]), -1),
    "is_finite": lambda t, p, x: np.ones(np.shape(array_of(x[0])), bool),
    "select_n": _select,
    "dot_general": _dot,
    "reduce_sum": lambda t, p, x: t.total(x[0], p["axes"]) if isinstance(x[0], Elements) else x[0].sum(tuple(p["axes"])),
    "reduce_max": _reduce(lambda t, a, b: t.larger(a, b)),
    "reduce_min": _reduce(lambda t, a, b: t.larger(a, b, -1)),
    "reduce_prod": _reduce(lambda t, a, b: t.multiply(a, b)),
    "convert_element_type": _convert,
    **{name: lambda t, p, x: x[0] for name in ("copy", "copy_p", "stop_gradient", "device_put", "optimization_barrier")},
}  # fmt: skip


def lower(
    t: Translation, jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Value | None]
) -> list[Value | None]:
    """The outputs of a jaxpr; None stands for what could not be translated (``t.missing`` says what and where)."""
    values: dict[Any, Value | None] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value | None:
        return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values.get(atom)

    for equation in _live(jaxpr):
        read_in = [read(atom) for atom in equation.invars]
        results = _equation(t, equation, read_in)
        values |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _live(jaxpr: Any) -> list[Any]:
    """The equations some output depends on, in order."""
    needed = {v for v in jaxpr.outvars if not hasattr(v, "val")}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            needed.update(v for v in _read_by(equation) if not hasattr(v, "val"))
            kept.append(equation)
    return kept[::-1]


def _read_by(equation: Any) -> list[Any]:
    """What is read of an equation's operands: of a linear system its matrix and right side, not its factors."""
    if equation.primitive.name != "custom_linear_solve":
        return list(equation.invars)
    lengths = equation.params["const_lengths"]
    return [*equation.invars[: lengths.matvec], *equation.invars[sum(lengths) :]]


def _linear_solve(t: Translation, equation: Any, x: list[Value | None]) -> list[Value | None]:
    """Rows of right sides with one matrix, read off by applying it to the unit vectors."""
    lengths, matvec = equation.params["const_lengths"], equation.params["jaxprs"].matvec
    constants, sides = x[: lengths.matvec], x[sum(lengths) :]
    if any(v is None for v in (*constants, *sides)):
        return [None] * len(equation.outvars)
    if len(sides) != 1 or sides[0] is None or not sides[0].shape:
        raise NoTranslation("of several systems")
    right = t.elements(sides[0]).ids
    n = right.shape[-1]
    columns = []
    for j in range(n):
        unit = np.zeros(right.shape)
        unit.reshape(-1, n)[0, j] = 1.0
        (image,) = lower(t, matvec.jaxpr, matvec.consts, [*constants, unit])
        if image is None:
            return [None]
        columns.append(t.elements(image).ids.reshape(-1, n)[0])
    return [Elements(solve(t, np.stack(columns, axis=1), right.reshape(-1, n)).ids.reshape(right.shape))]


def _equation(t: Translation, equation: Any, x: list[Value | None]) -> list[Value | None]:
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        return _call(t, equation, x)
    if name == "scan":
        return _scan(t, equation, x)
    if all(isinstance(v, np.ndarray) for v in x):
        outputs = equation.primitive.bind(*x, **params)  # a constant, computed in float64
        return [np.asarray(o) for o in (outputs if equation.primitive.multiple_results else (outputs,))]
    known = [v for v in x if v is not None]
    t.where = source_line(equation)
    try:
        if name == "custom_linear_solve":
            return _linear_solve(t, equation, x)
        if name in _MOVES:
            return _move(t, equation, known) if len(known) == len(x) else [None] * len(equation.outvars)
        if name not in PRIMITIVES:
            raise NoTranslation
        if len(known) < len(x):
            return [None] * len(equation.outvars)
        kind = np.dtype(equation.outvars[0].aval.dtype)
        if (kind.kind in "iu" and name in ("div", "and", "or", "not")) or kind in (np.float16, np.float32):
            raise NoTranslation(f"on {kind}")
        if name == "convert_element_type":
            params = {**params, "from": np.dtype(equation.invars[0].aval.dtype)}
        return [PRIMITIVES[name](t, params, known)]
    except NoTranslation as reason:
        t.missing.append((f"{name} {reason}".strip(), t.where))
        return [None] * len(equation.outvars)
    except ValueError as reason:
        t.missing.append((f"{name} ({reason})", t.where))
        return [None] * len(equation.outvars)


def source_line(equation: Any) -> str:
    """file:line (function) of the user's code that an equation comes from, or an empty text."""
    try:
        from jax._src.source_info_util import summarize  # the public interface tells no lines

        text = str(summarize(equation.source_info))
    except (ImportError, AttributeError, TypeError):
        return ""
    path, _, rest = text.partition(":")
    return f"{PurePath(path).name}:{rest}" if rest else text


def _call(t: Translation, equation: Any, x: list[Value | None]) -> list[Value | None]:
    params = equation.params
    inner = next((params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params), None)
    if inner is None:
        t.missing.append((equation.primitive.name, source_line(equation)))
        return [None] * len(equation.outvars)
    body, constants = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())
    if [e.primitive.name for e in body.eqns] == _LOG_ADD_EXP and len(x) == 2 and not any(v is None for v in x):
        a, b = (v if isinstance(v, Elements) else np.asarray(v, np.float64) for v in x if v is not None)
        if isinstance(a, Elements) or isinstance(b, Elements):  # log(e^a + e^b) = b + log(1 + e^(a - b))
            return [t.add(b, t.unary("softplus", t.add(a, b, -1)))]
    return lower(t, body, constants, x)


def _scan(t: Translation, equation: Any, x: list[Value | None]) -> list[Value | None]:
    """A loop of known length, unrolled."""
    p = equation.params
    length, n, m = p["length"], p["num_consts"], p["num_consts"] + p["num_carry"]
    if length > _LONGEST_SCAN or any(v is None for v in x):
        if length > _LONGEST_SCAN:
            t.missing.append((f"scan of {length} steps", source_line(equation)))
        return [None] * len(equation.outvars)
    carry, stacked = x[n:m], {}
    for step in reversed(range(length)) if p["reverse"] else range(length):
        slices = [v[step] if isinstance(v, np.ndarray) else Elements(v.ids[step]) for v in x[m:] if v is not None]
        out = lower(t, p["jaxpr"].jaxpr, p["jaxpr"].consts, [*x[:n], *carry, *slices])
        carry, stacked[step] = out[: m - n], out[m - n :]
    results: list[Value | None] = list(carry)
    for column in zip(*(stacked[step] for step in range(length)), strict=True):
        if any(v is None for v in column):
            results.append(None)
        else:
            results.append(t.settle(np.stack([t.elements(v).ids for v in column if v is not None])))
    return results


def _move(t: Translation, equation: Any, x: Sequence[Value]) -> list[Value | None]:
    """Runs a primitive that moves numbers on the numbers of the variables."""
    name, params = equation.primitive.name, equation.params
    data = range(len(x)) if _MOVES[name] is None else _MOVES[name] or ()
    if any(isinstance(v, Elements) for i, v in enumerate(x) if i not in data):
        raise NoTranslation("with an index that varies")
    arrays = [t.elements(v).ids if i in data else np.asarray(v) for i, v in enumerate(x)]
    if name in _WITH_NUMPY:
        return [t.settle(_WITH_NUMPY[name](params, arrays))]
    outputs = equation.primitive.bind(*arrays, **params)
    ids = [np.asarray(o) for o in (outputs if equation.primitive.multiple_results else (outputs,))]
    allowed = np.concatenate([arrays[i].reshape(-1) for i in data])
    if not all(np.isin(i, allowed).all() for i in ids):
        raise NoTranslation("with an index out of range")
    return [t.settle(i) for i in ids]


def _broadcast(p: Mapping[str, Any], x: Sequence[np.ndarray]) -> np.ndarray:
    shape = [1] * len(p["shape"])
    for axis, size in zip(p["broadcast_dimensions"], x[0].shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(x[0].reshape(shape), p["shape"])


def _slice(p: Mapping[str, Any], x: Sequence[np.ndarray]) -> np.ndarray:
    steps = p["strides"] or (1,) * x[0].ndim
    return x[0][tuple(map(slice, p["start_indices"], p["limit_indices"], steps))]


# the frequent ones without JAX, which would compile each of them
_WITH_NUMPY: dict[str, Callable[[Mapping[str, Any], Sequence[np.ndarray]], np.ndarray]] = {
    "reshape": lambda p, x: x[0].reshape(p["new_sizes"]),
    "squeeze": lambda p, x: np.squeeze(x[0], tuple(p["dimensions"])),
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "transpose": lambda p, x: x[0].transpose(p["permutation"]),
    "rev": lambda p, x: np.flip(x[0], tuple(p["dimensions"])),
    "concatenate": lambda p, x: np.concatenate(x, axis=p["dimension"]),
    "stack": lambda p, x: np.stack(x, axis=p["axis"]),
}
