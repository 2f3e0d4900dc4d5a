"""A closed loop given in Python: what a problem file says, from functions written with jax.numpy.

Beside `load.problem`: functions become formula text first, and that text is read like a file's. So both ways give the
same loop, and a loop built here can be written as a problem file.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from holdfast.errors import InputError, ModelError, PropertyError
from holdfast.graph import Model
from holdfast.load.formula_text import FormulaTexts, formula_text
from holdfast.load.function import check_function, trace_function
from holdfast.load.onnx import load_model
from holdfast.load.problem_controller import read_controller
from holdfast.load.problem_fields import Place
from holdfast.load.problem_plant import read_plant
from holdfast.spec.plant import LoopData
from holdfast.spec.temporal import Instance

Number = float | int | str | Decimal | Fraction
Interval = tuple[Number, Number] | Sequence[Number]
Vector = Any  # what jax.numpy works on


def Loop(
    plant: Callable[..., Vector],
    controller: Model | str | PathLike[str] | None = None,
    *,
    kind: Literal["ode", "map"] = "ode",
    states: Sequence[str],
    inputs: Sequence[str] = (),
    disturbances: Mapping[str, Interval] | None = None,
    parameters: Mapping[str, Number | Interval] | None = None,
    domain: Mapping[str, Interval] | None = None,
    feedback: Literal["continuous", "sampled"] = "continuous",
    period: Number | None = None,
    network_inputs: Callable[..., Vector] | None = None,
    plant_inputs: Callable[..., Vector] | None = None,
    saturate: Mapping[str, Interval] | None = None,
) -> Instance:
    """A plant, and a network that controls it, as an instance of a problem (``.loop``, ``.document``).

    ``plant``: f(x, u, w, p), written with `jax.numpy`, with as many of these vectors as it declares: states, inputs,
    disturbances, parameters, each in the order of their names. It returns the derivative of the states (``kind`` "ode")
    or the next states ("map"). ``controller``: an ONNX file or a loaded model; None for an autonomous plant.

    ``parameters``: a number, or an interval for one unknown constant; ``disturbances``: intervals of signals that may
    change at any time; ``domain``: where the formulas are meant. Numbers are exact: a float is the float64 number it is,
    text such as "0.1" is that decimal. Numbers inside the functions are float64; give what must be decimal as a
    parameter. ``feedback``, ``period`` (seconds): for kind "ode"; a map is controlled at every step.

    ``network_inputs``: (x, p, w) -> inputs of the network, by default all states. ``plant_inputs``: (y, x) -> u from the
    network's outputs, by default u = y. Both may declare fewer vectors. ``saturate``: limits of inputs, put on last.

    >>> import jax.numpy as jnp
    >>> pendulum = Loop(
    ...     lambda x, u, w, p: jnp.array([x[1], p[0] * jnp.sin(x[0]) + w[0]]),
    ...     states=["th", "om"], disturbances={"w": ("-0.01", "0.01")}, parameters={"a": "9.81"},
    ... )
    >>> pendulum.document["plant"]["derivative"]
    {'th': 'om', 'om': 'w + a*sin(th)'}
    >>> pendulum.loop.plant.signals.names
    ('th', 'om', 'w')

    Raises `holdfast.InputError` (`ModelError` for the functions and the network, `PropertyError` for the rest).
    """
    groups = {
        "states": _names("states", states), "inputs": _names("inputs", inputs),
        "disturbances": tuple(disturbances or ()), "parameters": tuple(parameters or ()),
    }  # fmt: skip
    variables = [name for group in groups.values() for name in group]
    if len(set(variables)) != len(variables):
        twice = next(name for i, name in enumerate(variables) if name in variables[:i])
        raise PropertyError(f"Loop: the name {twice} is given twice; accepted are different names")
    flat = _flat("plant", plant, [len(group) for group in groups.values()])
    texts = _texts("plant", flat, variables)
    _count("plant", "derivatives" if kind == "ode" else "next states", texts.outputs, groups["states"])
    definitions = dict(texts.definitions)
    tables: dict[str, Any] = {
        "kind": kind, "states": list(groups["states"]), "inputs": list(groups["inputs"]),
        "parameters": {name: _entry(f"parameters {name}", v) for name, v in (parameters or {}).items()},
        "disturbances": {name: _entry(f"disturbances {name}", v) for name, v in (disturbances or {}).items()},
        "definitions": definitions,
        "next" if kind == "map" else "derivative": dict(zip(groups["states"], texts.outputs, strict=True)),
    }  # fmt: skip
    if domain is not None:
        tables["domain"] = {name: _entry(f"domain {name}", v) for name, v in domain.items()}
    document: dict[str, Any] = {"format": "holdfast-problem/1", "plant": tables}
    model, path = _network(controller)
    if model is not None:
        shown = [groups["states"], groups["parameters"], groups["disturbances"]]
        document["controller"] = {"network": path} | _controller(
            model, shown, groups, definitions, network_inputs, plant_inputs
        )
        if kind == "ode":
            document["controller"] |= {"feedback": feedback}
        if period is not None:
            document["controller"] |= {"period": _exact("period", period)}
        if saturate:
            document["controller"]["saturate"] = {n: _entry(f"saturate {n}", v) for n, v in saturate.items()}
    elif groups["inputs"]:
        raise PropertyError(f"Loop: the plant has the inputs {', '.join(groups['inputs'])} and no controller")
    place = Place("Loop")
    built, formulas = read_plant(place.at("plant"), {key: value for key, value in tables.items() if value})
    joined = None
    if model is not None:
        network = model
        joined = read_controller(
            place.at("controller"), document["controller"], formulas, kind, lambda place, value: network
        )
    numbers = [float(formulas.constants.get(name, math.nan)) for name in variables]
    order = [list(built.signals.names).index(name) if name in built.signals.names else -1 for name in variables]
    check_function(built.dynamics, lambda s: flat(_assembled(s, order, numbers)), "plant, as formulas")
    return Instance("", LoopData(built, joined), document=document)


def _assembled(signals: Vector, order: Sequence[int], numbers: Sequence[float]) -> Vector:
    """The vector the plant was traced with, from signals and the parameters that are numbers."""
    import jax.numpy as jnp

    return jnp.stack([signals[i] if i >= 0 else jnp.asarray(v) for i, v in zip(order, numbers, strict=True)])


def _controller(
    model: Model,
    shown: Sequence[Sequence[str]],
    groups: Mapping[str, Sequence[str]],
    definitions: dict[str, str],
    network_inputs: Callable[..., Vector] | None,
    plant_inputs: Callable[..., Vector] | None,
) -> dict[str, Any]:
    """The formulas around the network; shared sub-expressions of its inputs go to the plant's ``definitions``."""
    arguments: Sequence[str] = groups["states"]
    if network_inputs is not None:
        names = [name for group in shown for name in group]
        flat = _flat("network_inputs", network_inputs, [len(group) for group in shown])
        texts = _texts("network_inputs", flat, names, prefix="e", taken=(*groups["inputs"], *definitions))
        definitions.update(texts.definitions)
        arguments = texts.outputs
    size = sum(math.prod(tensor.shape) for tensor in model.outputs)
    outputs = [f"y{i}" for i in range(size)]
    given: Sequence[str] = outputs
    if plant_inputs is not None:
        flat = _flat("plant_inputs", plant_inputs, [size, len(groups["states"])])
        given = _texts("plant_inputs", flat, [*outputs, *groups["states"]], prefix=None).outputs
    _count("plant_inputs", "inputs", given, groups["inputs"])
    return {"network_inputs": list(arguments), "plant_inputs": dict(zip(groups["inputs"], given, strict=True))}


def _texts(
    what: str, function: Callable[[Vector], Vector], names: Sequence[str], prefix: str | None = "d", taken: Sequence[str] = ()
) -> FormulaTexts:  # fmt: skip
    """A function of one flat vector as formulas; ``taken``: names that definitions must not have."""
    padded = [*names, *taken]  # further variables that nothing reads keep their names to themselves
    traced = trace_function(lambda s: function(s[: len(names)]), {"signals": len(padded)}, name=what)
    return formula_text(traced.model, padded, divisors=traced.divisors, prefix=prefix)


def _flat(what: str, function: Callable[..., Vector], sizes: Sequence[int]) -> Callable[[Vector], Vector]:
    """The function of several vectors as one of all of them in a row, as many as it declares."""
    count = _declared(what, function, len(sizes))
    ends = np.cumsum([0, *sizes]).tolist()
    return lambda s: function(*(s[ends[i] : ends[i + 1]] for i in range(count)))


def _declared(what: str, function: Callable[..., Vector], most: int) -> int:
    try:
        declared = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise ModelError(f"Loop: {what} is {function!r}; accepted is a Python function") from None
    if any(p.kind is p.VAR_POSITIONAL for p in declared):
        return most
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in declared)
    if not 1 <= count <= most:
        raise ModelError(f"Loop: {what} takes {count} arguments; accepted are 1 to {most} vectors")
    return count


def _network(controller: Model | str | PathLike[str] | None) -> tuple[Model | None, str]:
    if controller is None or isinstance(controller, Model):
        return controller, "controller.onnx"
    return load_model(Path(controller)), str(controller)


def _names(what: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise PropertyError(f"Loop: {what} is the text '{given}'; accepted is a list of names")
    return tuple(given)


def _count(what: str, found: str, texts: Sequence[str], names: Sequence[str]) -> None:
    if len(texts) != len(names):
        raise InputError(
            f"Loop: {what} gives {len(texts)} numbers; accepted are {len(names)} {found}, one for each of: {', '.join(names)}"
        )


def _entry(what: str, value: Number | Interval) -> Any:
    """A number or an interval in the layout of a problem file."""
    if isinstance(value, str | int | float | Decimal | Fraction | np.generic):
        return _exact(what, value)
    return [_exact(what, end) for end in value]


def _exact(what: str, value: Any) -> int | Decimal:
    """A number as problem files hold it: exactly, as a finite decimal."""
    try:
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, bool):
            raise TypeError
        if isinstance(plain, int):
            return plain
        exact = Fraction(plain)
        rest = exact.denominator
        while rest % 2 == 0:
            rest //= 2
        while rest % 5 == 0:
            rest //= 5
        if rest != 1:
            raise ValueError
        return Decimal(plain) if not isinstance(plain, Fraction) and "/" not in str(plain) else _decimal(exact)
    except (ArithmeticError, TypeError, ValueError):
        raise PropertyError(
            f"Loop: {what} is {value!r}; accepted are finite numbers: int, float (exactly), Decimal, or decimal text"
        ) from None


def _decimal(value: Fraction) -> Decimal:
    """A fraction whose denominator divides a power of ten, exactly."""
    places = value.denominator.bit_length()  # 2^a 5^b divides 10^max(a, b), and both are at most this
    return Decimal(
        (int(value < 0), tuple(map(int, str(abs(value.numerator) * 10**places // value.denominator))), -places)
    )
