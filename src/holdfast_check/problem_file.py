"""Problem files (`holdfast-problem/1`) -> one instance.

What the format of certificates of loops leaves out (schedules, selections) is refused, and so is every key that is not known.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from holdfast_check.arithmetic import Unreadable
from holdfast_check.formula import FUNCTIONS, Formulas
from holdfast_check.network import demand
from holdfast_check.problem import Problem, interval, rational, table

CONTROLLER = ["network", "networks", "feedback", "period", "network_inputs", "plant_inputs", "saturate", "select"]
PLANT = [
    "kind",
    "states",
    "inputs",
    "parameters",
    "disturbances",
    "schedule",
    "definitions",
    "domain",
    "derivative",
    "next",
    "accelerations",
    "mass",
    "forces",
]
TOP = [
    "format",
    "title",
    "plant",
    "controller",
    "initial",
    "horizon",
    "functions",
    "property",
    "instance",
    "expected",
    "notes",
]
INSTANCE = ["id", "parameters", "initial", "horizon", "property", "plant", "expected", *CONTROLLER]
PROPERTIES = {
    "invariant": ["set"],
    "attracts": ["from", "to"],
    "barrier": ["function", "unsafe"],
    "until": ["first", "then", "function"],
}


def exact(text: str) -> Any:
    """A decimal number of the file; infinities stay floats, which are refused where numbers are asked for."""
    try:
        return Fraction(text)
    except ValueError:
        return float(text)


def merged(document: dict[str, Any], instance: dict[str, Any]) -> dict[str, Any]:
    """The tables of the file with those of the instance: parameters and initial name by name, everything else as a whole, the plant
    only if its kind is named."""
    own = instance.get("plant", {})
    result = {**document, "plant": {**({} if "kind" in own else document["plant"]), **own}}
    result["plant"]["parameters"] = {**result["plant"].get("parameters", {}), **instance.get("parameters", {})}
    result["initial"] = {**document.get("initial", {}), **instance.get("initial", {})}
    result["property"] = instance.get("property", document.get("property", []))
    result["horizon"] = instance.get("horizon", document.get("horizon"))
    own = {k: instance[k] for k in CONTROLLER if k in instance}
    rivals = [("network", "networks"), ("plant_inputs", "select")]
    gone = {b for pair in rivals for a, b in (pair, pair[::-1]) if a in own}
    gone |= {"period"} if own.get("feedback") == "continuous" else set()
    inherited = {k: v for k, v in document.get("controller", {}).items() if k not in gone}
    result["controller"] = {**inherited, **own} or None
    return result


def read_problem(text: bytes, name: str, files: Callable[[str], bytes]) -> Problem:
    """The instance of this name ("" where the file has none)."""
    try:
        return instance_of(document_of(text), name, files)
    except (Unreadable, OSError, MemoryError):
        raise
    except Exception as error:  # whatever it is, the file is not understood
        raise Unreadable(f"the problem file: {type(error).__name__}: {error}") from None


def document_of(text: bytes) -> dict[str, Any]:
    try:
        document = table(tomllib.loads(text.decode(), parse_float=exact), TOP, "the problem file")
    except ValueError as error:
        raise Unreadable(f"the problem file: {error}") from None
    demand(document.get("format") == "holdfast-problem/1", "the format is not holdfast-problem/1")
    return document


def understood(problem: Problem) -> None:
    """Raises `Unreadable` if the closed loop, or a set or function of a property, cannot be used."""
    f = Formulas([])
    values = f.elements(f.append("input", (), len(problem.states) + len(problem.free)))
    x, free = values[: len(problem.states)], values[len(problem.states) :]
    try:
        problem.dynamics(f, x, free)
        for one in problem.properties:
            for key in ("set", "from", "to", "first", "then", "unsafe"):
                if key in one and one[key] != "equilibrium":
                    problem.inequalities(f, one[key], x)
            if "function" in one:
                problem.function(f, one["function"], x, strip=False)
    except (Unreadable, OSError, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(f"the problem file: {type(error).__name__}: {error}") from None


def instance_of(document: dict[str, Any], name: str, files: Callable[[str], bytes]) -> Problem:
    instances = [table(i, INSTANCE, "an instance") for i in document.get("instance", [])]
    found = [i for i in instances if i.get("id") == name] if instances else [{}] if name == "" else []
    demand(len(found) == 1, f"the file does not have one instance {name!r}")
    document = merged(document, found[0])
    plant, controller, period = table(document["plant"], PLANT, "plant"), document["controller"], None
    kind, states = plant["kind"], plant["states"]
    demand(kind in ("ode", "map", "implicit-ode"), f"the kind of plant {kind!r} is not known")
    wanted = {
        "ode": {"derivative"},
        "map": {"next"},
        "implicit-ode": {"derivative", "accelerations", "mass", "forces"},
    }[kind]
    rest = {"derivative", "next", "accelerations", "mass", "forces"} - wanted
    if kind == "implicit-ode":
        plant.setdefault("derivative", {})
    demand(wanted <= plant.keys() and not rest & plant.keys(), f"a plant of kind {kind} has {sorted(wanted)}")
    demand(not plant.get("schedule"), "schedules are not part of version 1")
    if controller is not None:
        demand(not {"select", "networks"} & controller.keys(), "selecting controllers are not part of version 1")
        table(controller, CONTROLLER, "controller")
        sampled = kind != "map" and controller.get("feedback") == "sampled"
        if sampled:
            period = rational(controller["period"])
            demand(period > 0, "the period is not positive")
        else:
            fits = controller.get("feedback") == (None if kind == "map" else "continuous")
            demand(fits and "period" not in controller, "the feedback is not one of this kind of plant")
    inputs = plant.get("inputs", [])
    demand(controller is not None or not inputs, "there is no controller for the inputs of the plant")
    given = plant.get("parameters", {})
    domain = {states.index(s): interval(v) for s, v in plant.get("domain", {}).items()}
    names = [*states, *inputs, *given, *plant.get("disturbances", {}), *plant.get("definitions", {})]
    clash = [n for n in names if names.count(n) > 1 or n in FUNCTIONS or n == "pi" or re.fullmatch(r"y\d+", n)]
    demand(not clash and states, f"the name {clash[:1]} stands for two things, or there are no states")
    functions = {
        n: table(v, ["network", "inputs", "expression"], "a function") for n, v in document.get("functions", {}).items()
    }
    for one in document["property"]:
        demand(one.get("kind") in PROPERTIES, f"properties of kind {one.get('kind')!r} are not part of version 1")
        demand(one.keys() - {"id"} == {"kind", *PROPERTIES[one["kind"]]}, f"a property {one['kind']} has other keys")
        unbounded = one["kind"] != "until" or document["horizon"] is None
        demand(unbounded, "until within a horizon is not part of version 1")
    return Problem(
        "map" if kind == "map" else "ode", states, inputs, {n: interval(v) for n, v in plant.get("disturbances", {}).items()},
        {n: interval(v) for n, v in given.items() if isinstance(v, list)}, {n: rational(v) for n, v in given.items() if not isinstance(v, list)},
        plant, controller, functions, domain, document["initial"], document["property"], files, period,
    )  # fmt: skip
