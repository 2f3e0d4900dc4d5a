"""Family and volume of the sets an instance claims something of, as text."""

from __future__ import annotations

from holdfast.errors import InputError
from holdfast.loop import ClosedLoop
from holdfast.report.shape import volume
from holdfast.spec.temporal import BoxSet, Ellipsoid, Instance, Level, Polytope, SetOfStates


def sizes(instance: Instance, loop: ClosedLoop) -> list[dict[str, str]]:
    """For each set of each property: instance, set, family, volume."""
    found = []
    for k, prop in enumerate(instance.properties):
        name = prop.id or f"property {k + 1}"
        words = ("from", "to") if prop.kind == "attracts" else ("unsafe set",) if prop.kind == "barrier" else ("set",)
        for word, states in zip(words, (prop.states, prop.target), strict=False):
            if states is None or states == "equilibrium":
                continue
            assert not isinstance(states, str)
            try:
                size = volume(states, loop)
            except InputError:
                continue  # not bounded: no volume
            text = "too small to be sampled" if size is None else str(size)
            found.append({"instance": instance.id, "set": f"{name}, {word}", "family": family(states), "volume": text})
    return found


def family(states: SetOfStates) -> str:
    """What the set is called."""
    match states:
        case BoxSet():
            return "box"
        case Polytope():
            return "parallelotope" if len(states.H) == len(states.center) else f"polytope of {len(states.H)} rows"
        case Ellipsoid():
            return "ellipsoid"
        case Level():
            return f"level set of {states.function}"
        case _:
            return f"set of {len(states.texts)} conditions"
