"""The [controller] and [functions] tables -> Controller and Functions: networks between two formulas.

Part of the reading of problem files, see `problem`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from holdfast.errors import PropertyError
from holdfast.graph import Model, Tensor
from holdfast.load.expression import COMPARISONS, FormulaError, parse_comparison
from holdfast.load.formula_graph import saturate
from holdfast.load.problem_fields import Place, array, choice, intervals, number, string, table, whole
from holdfast.load.problem_plant import Formulas
from holdfast.operators import GraphBuilder
from holdfast.spec.plant import Case, Controller, Feedback, Function
from holdfast.transforms.compose import embed, finish

KEYS = ("network", "networks", "feedback", "period", "network_inputs", "plant_inputs", "saturate", "select")
Networks = Callable[[Place, Any], Model]  # reads the network a field names


def read_controller(place: Place, value: Any, formulas: Formulas, kind: str, networks: Networks) -> Controller:
    """The controller; its networks' inputs and outputs fit its formulas."""
    fields = table(place, value, KEYS, ("network_inputs",))
    feedback, period = _feedback(place, fields, kind)
    if ("network" in fields) == ("networks" in fields):
        place.fail("found both network and networks" if "network" in fields else "network is missing")
    if ("plant_inputs" in fields) == ("select" in fields):
        place.fail("found both plant_inputs and select" if "select" in fields else "plant_inputs or select is missing")
    if "networks" in fields and "select" not in fields:
        place.at("networks").fail("several networks need select, one row for each")
    if "networks" in fields:
        listed = array(place.at("networks"), fields["networks"], of="an array of paths")
        models = tuple(networks(place.at("networks").at(i), path) for i, path in enumerate(listed))
    else:
        models = (networks(place.at("network"), fields["network"]),)
    where = place.at("network_inputs")
    arguments = _arguments(
        where, fields["network_inputs"], formulas, ("states", "parameters", "disturbances", "schedule")
    )
    for model in models:
        check_network(where, model, _size(arguments.outputs[0]))
    counts = {_size(model.outputs[0]) for model in models}
    if len(counts) > 1:
        place.at("networks").fail(
            f"the networks have different numbers of outputs: {', '.join(map(str, sorted(counts)))}"
        )
    outputs = counts.pop() if counts else 0
    for name in (f"y{i}" for i in range(outputs)):
        if name in formulas.signals.names or name in formulas.constants or name in formulas.definitions:
            place.fail(f"the plant uses the name {name}, which stands for an output of the network")
    reader = _PlantInputs(place, fields, formulas, outputs)
    if "select" not in fields:
        model = reader.model(place.at("plant_inputs"), fields["plant_inputs"])
        return Controller(models, feedback, arguments, model, period)
    by, rows, first = _select(place.at("select"), fields["select"], reader, outputs, len(models), "networks" in fields)
    return Controller(models, feedback, arguments, None, period, by, rows, first)


def _feedback(place: Place, fields: Mapping[str, Any], kind: str) -> tuple[Feedback, Fraction | None]:
    if kind == "map":
        for key in ("feedback", "period"):
            if key in fields:
                place.at(key).fail("a map is controlled at every step: neither feedback nor period is accepted")
        return "step", None
    table(place, fields, None, ("feedback",))
    feedback: Feedback = choice(place.at("feedback"), fields["feedback"], ("sampled", "continuous"))
    if (feedback == "sampled") != ("period" in fields):
        place.fail("period is missing" if feedback == "sampled" else "continuous feedback has no period")
    if feedback == "continuous":
        return feedback, None
    period = number(place.at("period"), fields["period"])
    if period <= 0:
        place.at("period").fail(f"found {fields['period']}, expected a positive number of seconds")
    return feedback, period


class _PlantInputs:
    """Formulas of signals and network outputs for all inputs of the plant, clipped to their limits."""

    def __init__(self, place: Place, fields: Mapping[str, Any], formulas: Formulas, outputs: int) -> None:
        self.formulas, self.names = formulas, formulas.signals.inputs
        self.extra = tuple(f"y{i}" for i in range(outputs))
        self.limits = intervals(place.at("saturate"), fields.get("saturate", {}), self.names, "input", degenerate=False)

    def model(self, place: Place, value: Any) -> Model:
        """Model from signals and network outputs to the inputs of the plant."""
        given = table(place, value, self.names, self.names)
        if not self.names:
            place.fail("the plant has no inputs")
        algebra = self.formulas.algebra(self.extra)
        forms = {name: self.formulas.form(place.at(name), algebra, given[name]) for name in self.names}
        for name, form in forms.items():
            kinds = ("states", "parameters", "disturbances", "schedule")
            self.formulas.only(place.at(name), algebra, [form], kinds)
        try:
            clipped = saturate(algebra, forms, self.limits)
        except FormulaError as error:
            place.fail(error)
        return self.formulas.model(place, algebra, clipped, len(self.extra))


def _select(
    place: Place, value: Any, reader: _PlantInputs, outputs: int, models: int, memory: bool
) -> tuple[Any, tuple[tuple[Case, ...], ...], int | None]:
    fields = table(place, value, ("by", "first", "rows"), ("by", "rows"))
    by = choice(place.at("by"), fields["by"], ("argmin", "argmax"))
    listed = array(place.at("rows"), fields["rows"], of="an array of rows")
    if len(listed) != outputs:
        place.at("rows").fail(
            f"found {len(listed)} rows, expected one for each of the {outputs} outputs of the network"
        )
    if memory and models != len(listed):
        place.fail(f"found {models} networks for {len(listed)} rows, expected one network for each row")
    rows = []
    for i, row in enumerate(listed):
        where = place.at("rows").at(i)
        cases = row if isinstance(row, list) else [row]
        if not cases:
            where.fail("found no case")
        rows.append(tuple(_case(where.at(k) if isinstance(row, list) else where, case, reader, len(listed), k + 1 == len(cases))
                          for k, case in enumerate(cases)))  # fmt: skip
    first = None
    if "first" in fields:
        first = whole(place.at("first"), fields["first"])
        if first >= len(listed):
            place.at("first").fail(f"found {first}, expected a row from 0 to {len(listed) - 1}")
    elif memory or any(case.after is not None for cases in rows for case in cases):
        place.fail("first is missing, the row that counts as picked before the start")
    return by, tuple(rows), first


def _case(place: Place, value: Any, reader: _PlantInputs, rows: int, last: bool) -> Case:
    fields = table(place, value, ("after", "where", *reader.names))
    conditions = [key for key in ("after", "where") if key in fields]
    if last and conditions:
        place.fail(f"the last case of a row always applies, {conditions[0]} is not accepted there")
    if not last and not conditions:
        place.fail("a case that is not the last of its row needs after or where")
    after: int | None = None
    where: Model | None = None
    strict: tuple[bool, ...] = ()
    if "after" in fields:
        after = whole(place.at("after"), fields.pop("after"))
        if after >= rows:
            place.at("after").fail(f"found {after}, expected a row from 0 to {rows - 1}")
    if "where" in fields:
        kinds = ("states", "parameters", "disturbances", "schedule")
        where, strict, _ = read_conditions(place.at("where"), fields.pop("where"), reader.formulas, kinds)
    return Case(reader.model(place, fields), after, where, strict)


def read_conditions(
    place: Place, value: Any, formulas: Formulas, kinds: tuple[str, ...]
) -> tuple[Model, tuple[bool, ...], tuple[str, ...]]:
    """Comparisons: Model of values <= 0 where they hold, which are strict, and their texts."""
    texts = [string(place.at(i), text) for i, text in enumerate(array(place, value, of="an array of conditions"))]
    if not texts:
        place.fail("found no condition, expected at least one")
    algebra, forms, strict = formulas.algebra(), {}, []
    for i, text in enumerate(texts):
        try:
            comparison = parse_comparison(text)
        except FormulaError as error:
            place.at(i).fail(error)
        forms[f"condition {i}"] = form = formulas.condition(place.at(i), algebra, comparison)
        formulas.only(place.at(i), algebra, [form], kinds)
        strict.append(comparison.relation in COMPARISONS[2:])
    return formulas.model(place, algebra, forms), tuple(strict), tuple(texts)


def read_functions(place: Place, value: Any, formulas: Formulas, networks: Networks) -> dict[str, Function]:
    """The named scalar functions."""
    return {
        name: _function(place.at(name), name, given, formulas, networks) for name, given in table(place, value).items()
    }


def _function(place: Place, name: str, value: Any, formulas: Formulas, networks: Networks) -> Function:
    fields = table(place, value, ("network", "inputs", "expression"))
    kinds = ("states", "parameters")
    if "expression" in fields:
        if len(fields) > 1:
            place.fail("expression excludes network and inputs")
        algebra = formulas.algebra()
        form = formulas.form(place.at("expression"), algebra, fields["expression"])
        formulas.only(place.at("expression"), algebra, [form], kinds)
        return Function(name, formulas.model(place, algebra, {name: form}))
    table(place, fields, None, ("network", "inputs"))
    network = networks(place.at("network"), fields["network"])
    arguments = _arguments(place.at("inputs"), fields["inputs"], formulas, kinds)
    check_network(place.at("inputs"), network, _size(arguments.outputs[0]))
    if _size(network.outputs[0]) != 1:
        place.at("network").fail(f"the network has {_size(network.outputs[0])} outputs, a function has one")
    builder = GraphBuilder()
    signals = builder.input((len(formulas.signals),), "signals")
    (output,) = embed(builder, network, embed(builder, arguments, [signals]))
    if builder.shape(output) != (1,):
        output = builder.add("reshape", [output], shape=(1,))
    return Function(
        name, finish(builder, [output], arguments.inputs, [Tensor(name, (1,), "float64")], name), network, arguments
    )


def _arguments(place: Place, value: Any, formulas: Formulas, kinds: tuple[str, ...]) -> Model:
    texts = array(place, value, of="an array of formulas")
    if not texts:
        place.fail("found no formula, expected at least one")
    algebra = formulas.algebra()
    forms = {}
    for i, text in enumerate(texts):
        forms[f"{place.keys[-1]}[{i}]"] = form = formulas.form(place.at(i), algebra, text)
        formulas.only(place.at(i), algebra, [form], kinds)
    return formulas.model(place, algebra, forms)


def check_network(place: Place, model: Model, given: int) -> None:
    """One input vector of the right size, one output vector."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise PropertyError(
            f"{place}: the network has {len(model.inputs)} inputs and {len(model.outputs)} outputs (tensors), one of each is accepted"
        )
    if _size(model.inputs[0]) != given:
        place.fail(f"found {given} formulas, the network takes {_size(model.inputs[0])} numbers")


def _size(tensor: Tensor) -> int:
    return math.prod(tensor.shape)
