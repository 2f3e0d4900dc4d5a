"""A function written with jax.numpy -> Model: traced in float64, translated to cards, checked against the function.

First station of a plant or a controller that is given in Python. JAX is imported here only, and only when needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from holdfast.errors import InternalError, ModelError
from holdfast.graph import Model, Tensor
from holdfast.load.elements import Translation, Value
from holdfast.load.jaxpr import lower
from holdfast.transforms.compose import finish
from holdfast.transforms.evaluate import evaluate

_TOLERANCE = 1e-9
_NUDGE = 2.0**-40
_SHIFTS = 1e3
_SCALES = (0.1, 1.0, 1.0, 4.0)


@dataclass(frozen=True, eq=False)
class TracedFunction:
    """``model`` and, for the parameters that are quotients float64 cannot hold, what 1 was divided by."""

    model: Model
    divisors: Mapping[str, np.ndarray]


def load_function(function: Callable[..., Any], sizes: Mapping[str, int] | Sequence[int], *, name: str = "") -> Model:
    """The Model of a function of vectors: one input (n,) per argument, one output (m,).

    ``function``: pure and written with `jax.numpy`; it takes one vector per entry of ``sizes`` (names -> lengths, or
    lengths) and returns an array, or a list or tuple of arrays and scalars, which are joined in order. Its float64
    numbers are taken exactly: 0.1 is the float64 next to 0.1. What it computes from constants alone is computed in
    float64 by Python and JAX before, and the result taken exactly. Everything else means real arithmetic. A condition
    (``jnp.where``) becomes a step: to the bounds it has both values and all between where it ties.

    >>> import jax.numpy as jnp
    >>> model = load_function(lambda x, u: jnp.array([x[1], jnp.sin(x[0]) + u[0]]), {"x": 2, "u": 1})
    >>> [tensor.shape for tensor in (*model.inputs, *model.outputs)]
    [(2,), (1,), (2,)]

    Raises `holdfast.ModelError` where the function cannot be traced, or uses what has no card (everything at once,
    with source lines).
    """
    return trace_function(function, sizes, name=name).model


def trace_function(
    function: Callable[..., Any], sizes: Mapping[str, int] | Sequence[int], *, name: str = ""
) -> TracedFunction:
    """`load_function`, with what is known exactly beside the model."""
    import jax
    import jax.numpy as jnp

    where = name or getattr(function, "__name__", type(function).__name__)
    named = dict(sizes) if isinstance(sizes, Mapping) else {f"x{i}": n for i, n in enumerate(sizes)}
    for argument, n in named.items():
        if n < 1:
            raise ModelError(f"{where}: argument {argument} has the length {n}; accepted are lengths from 1 on")

    def joined(*arguments: Any) -> Any:
        leaves = jax.tree_util.tree_leaves(function(*arguments))
        return jnp.concatenate([jnp.ravel(jnp.asarray(leaf)) for leaf in leaves])

    with _float64():
        try:
            traced = jax.make_jaxpr(joined)(*(jax.ShapeDtypeStruct((n,), np.float64) for n in named.values()))
        except ModelError:
            raise
        except Exception as error:  # whatever the user's code raises
            first = str(error).strip().split("\n")[0]
            raise ModelError(
                f"{where}: cannot be traced by JAX ({type(error).__name__}: {first}); accepted is a pure function of "
                f"{len(named)} vector(s), written with jax.numpy, without Python conditions on its arguments"
            ) from error
        t = Translation()
        arguments: list[Value | None] = [t.input(n, argument) for argument, n in named.items()]
        (result,) = lower(t, traced.jaxpr, traced.consts, arguments)
    if t.missing:
        listed = "; ".join(f"{what} at {at}" if at else what for what, at in dict.fromkeys(t.missing))
        raise ModelError(f"{where}: uses what holdfast has no operator for: {listed}")
    if result is None:
        raise InternalError(f"{where}: an output is missing, and nothing said why")
    if isinstance(result, np.ndarray):
        if result.dtype.kind not in "fiub":
            raise ModelError(f"{where}: returns {result.dtype} numbers; accepted are real ones")
        if not np.isfinite(result).all():
            raise ModelError(f"{where}: returns a constant that is not finite")
    output = t.vector(result)
    inputs = [Tensor(argument, (n,), "float64") for argument, n in named.items()]
    model = finish(t.builder, [output], inputs, [Tensor("y", t.builder.shape(output), "float64")], where)
    divisors = {
        key: divisor
        for key, array in model.parameters.items()
        for quotient, divisor in t.fractions
        if quotient is array
    }
    check_function(model, joined, where)
    return TracedFunction(model, divisors)


def _float64() -> Any:
    """A context in which JAX computes in float64; the setting of the process stays as it is."""
    import jax

    here: Any = jax if hasattr(jax, "enable_x64") else import_module("jax.experimental")  # where older versions have it
    return here.enable_x64(True)


def check_function(model: Model, function: Callable[..., Any], where: str) -> None:
    """ModelError where the model and the function differ by more than float64 rounding at some seeded random point."""
    import jax

    generator = np.random.default_rng(20240229)
    points = [
        [generator.uniform(-scale if i % 2 else 0.0, scale, t.shape) for t in model.inputs]
        for i, scale in enumerate(_SCALES)
    ]
    with _float64():
        compiled = jax.jit(function)
        for point in points:
            with np.errstate(all="ignore"):
                ours = np.asarray(evaluate(model.graph, model.parameters, point)[model.graph.outputs[0]]).reshape(-1)
            theirs, moved = (np.asarray(compiled(*(x * s for x in point))) for s in (1.0, 1.0 + _NUDGE))
            finite = np.isfinite(ours) & np.isfinite(theirs) & np.isfinite(moved)  # a point may lie outside the domain
            with np.errstate(all="ignore"):
                # terms that cancel, or a steep function, move by more than the last digits
                allowed = _TOLERANCE * (1.0 + np.abs(theirs)) + _SHIFTS * np.abs(moved - theirs)
                apart = finite & ~(np.abs(ours - theirs) <= allowed)
            if apart.any():
                i = int(apart.argmax())
                raise ModelError(
                    f"{where}: output {i} is {ours[i]:.17g} in holdfast and {theirs[i]:.17g} in JAX at a sample point; "
                    "please report this"
                )
