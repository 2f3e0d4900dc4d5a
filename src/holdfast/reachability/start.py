"""What a tube starts from, as people give it: boxes of states by name or as arrays, a horizon; checked against the loop.

Stands before `holdfast.reachability.reach`. Numbers are exact: a float is the float64 number it is, text such as "0.1" that decimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from holdfast.errors import InputError
from holdfast.reachability.simulate import horizon_of
from holdfast.spec.plant import LoopData
from holdfast.spec.region import Box, Exact
from holdfast.spec.temporal import Instance


def initial_boxes(instance: Instance, given: Any = None, where: str = "reach") -> tuple[Box, ...]:
    """The boxes of initial states: those of the instance, or what is given instead.

    ``given``: a `Box`, a mapping from every state to a number or an interval, a pair of vectors (lower, upper), or a list of such
    boxes (`Box` or mapping). Raises InputError.
    """
    if given is None:
        if instance.initial is None:
            raise InputError(f"{where}: [initial] is missing; accepted is a box of initial states")
        return (instance.initial,)
    several = isinstance(given, Sequence) and len(given) > 0 and all(isinstance(g, Box | Mapping) for g in given)
    boxes = tuple(_box(instance.loop, one, where) for one in (given if several else (given,)))
    for box in boxes:
        _require_domain(instance.loop, box, where)
    return boxes


def horizon(instance: Instance, given: Any = None, where: str = "reach") -> Fraction:
    """Seconds (of a map: steps): that of the instance, or what is given instead. Raises InputError."""
    if given is None:
        found = horizon_of(instance)
        if not found:
            raise InputError(f"{where}: [horizon] is missing; accepted is a number of seconds (maps: steps)")
        return found
    try:
        return Fraction(given.item() if isinstance(given, np.generic) else given)
    except (ValueError, TypeError, ArithmeticError):
        raise InputError(f"{where}: the horizon is {given!r}; accepted is a number of seconds (maps: steps)") from None


def _box(loop: LoopData, given: Any, where: str) -> Box:
    states = loop.plant.signals.states
    if isinstance(given, Box):
        ends = [given]
        if len(given) != len(states):
            raise InputError(f"{where}: the initial box has {len(given)} components; accepted are {len(states)}")
        return ends[0]
    if isinstance(given, Mapping):
        odd = [name for name in given if name not in states] or [name for name in states if name not in given]
        if odd:
            raise InputError(
                f"{where}: found the initial states {', '.join(map(str, given))}; accepted are {', '.join(states)}"
            )
        pairs = [_interval(given[name], f"{where}: {name}") for name in states]
    else:
        try:
            lower, upper = given
            pairs = [(a, b) for a, b in zip(lower, upper, strict=True)]
        except (TypeError, ValueError):
            raise InputError(
                f"{where}: found the initial set {given!r}; accepted are intervals by name, or (lower, upper)"
            ) from None
        if len(pairs) != len(states):
            raise InputError(f"{where}: the initial box has {len(pairs)} components; accepted are {len(states)}")
    try:
        return Box.of([a for a, _ in pairs], [b for _, b in pairs])
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(f"{where}: the initial box cannot be used ({error})") from None


def _interval(given: Any, where: str) -> tuple[Exact, Exact]:
    if isinstance(given, int | float | str | Decimal | Fraction | np.generic):
        return given, given  # type: ignore[return-value]
    try:
        low, high = given
    except (TypeError, ValueError):
        raise InputError(f"{where}: found {given!r}; accepted is a number or an interval") from None
    return low, high


def _require_domain(loop: LoopData, box: Box, where: str) -> None:
    plant = loop.plant
    if plant.domain is None:
        return
    for i, name in enumerate(plant.signals.states):
        if not plant.bounded[i]:
            continue
        low, high = plant.domain.exact_lower(i), plant.domain.exact_upper(i)
        if box.exact_lower(i) < low or box.exact_upper(i) > high:
            raise InputError(
                f"{where}: {name} leaves the domain [{float(low):g}, {float(high):g}]; accepted are initial states inside"
            )
