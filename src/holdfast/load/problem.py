"""Problem files (`holdfast-problem/1`, docs/problem_format.md) -> Problem: a closed loop and what is claimed of it.

Tables are read as exact plain data, merged per instance, checked field by field (`problem_*`), and formulas compiled.
Everything the format allows is read; whether it can be decided is a later question.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from holdfast.errors import ModelError, PropertyError, UnsupportedOperatorError
from holdfast.graph import Model
from holdfast.load.onnx import load_model
from holdfast.load.problem_controller import KEYS as CONTROLLER
from holdfast.load.problem_controller import read_controller, read_functions
from holdfast.load.problem_fields import Place, array, choice, string, table
from holdfast.load.problem_plant import read_plant
from holdfast.load.problem_properties import Setting, read_horizon, read_initial, read_properties
from holdfast.spec.plant import LoopData
from holdfast.spec.temporal import Instance, Problem

FORMAT = "holdfast-problem/1"
LARGEST = 2**24  # bytes of a problem file
_TOP = ("format", "title", "plant", "controller", "initial", "horizon", "functions", "property", "instance", "expected", "notes")  # fmt: skip
_INSTANCE = ("id", "expected", "parameters", "initial", "horizon", "property", "plant", *CONTROLLER)
_EXPECTED = ("verified", "falsified", "open", "none")
_INSTEAD = {"network": "networks", "networks": "network", "plant_inputs": "select", "select": "plant_inputs"}
_T = TypeVar("_T")


def load_problem(path: str | Path) -> Problem:
    """Read, check and compile a problem file.

    Raises PropertyError (ModelError for a network) with one sentence: file, key, what was found, what is accepted.
    """
    path = Path(path)
    document, digest = _read(path)
    place = Place(str(path))
    table(place, document, _TOP, ("format", "plant"))
    if document["format"] != FORMAT:
        place.field("format").fail(f"found {document['format']!r}, accepted: {FORMAT}")
    title = string(place.field("title"), document.get("title", ""))
    notes = table(place.at("notes"), document.get("notes", {}))
    loader = _Loader(path)
    listed = array(place.at("instance"), document.get("instance", []), of="an array of tables")
    instances: list[Instance] = []
    for i, given in enumerate(listed):
        where = Place(str(path), f"[[instance]] {i}")
        fields = table(where, given, _INSTANCE, ("id",))
        identity = string(where.at("id"), fields["id"])
        if any(identity == other.id for other in instances):
            where.at("id").fail(f"the id {identity} is used twice")
        instances.append(loader.instance(identity, merge(document, fields, where)))
    if "instance" not in document:
        instances.append(loader.instance("", merge(document, {}, place)))
    elif not listed:
        place.at("instance").fail("found no instance; leave the key out for a problem without instances")
    return Problem(title, tuple(instances), str(path), digest, notes)


def merge(document: Mapping[str, Any], override: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The tables of one instance: parameters and initial name by name, everything else replaced as a whole.

    A plant that names its kind replaces the file's plant; one that does not replaces the keys it has.
    """
    merged = {key: value for key, value in document.items() if key not in ("instance", "notes")}
    merged.update({key: override[key] for key in ("expected", "horizon", "property") if key in override})
    if "plant" in override:
        plant = table(place.at("plant"), override["plant"])
        base = {} if "kind" in plant else table(Place(place.file, "[plant]"), document["plant"])
        merged["plant"] = {**base, **plant}
    for key, owner in (("parameters", "plant"), ("initial", "")):
        if key in override:
            holder = table(Place(place.file, "[plant]"), merged["plant"]) if owner else merged
            old = table(Place(place.file, f"[{owner or key}]", (key,) if owner else ()), holder.get(key, {}))
            joined = {**old, **table(place.at(key), override[key])}
            merged = {**merged, owner: {**holder, key: joined}} if owner else {**merged, key: joined}
    changes = {key: override[key] for key in CONTROLLER if key in override}
    if changes:
        controller = table(Place(place.file, "[controller]"), document.get("controller", {}))
        dropped = {_INSTEAD[key] for key in changes if key in _INSTEAD} - set(changes)
        if changes.get("feedback") == "continuous":
            dropped |= {"period"} - set(changes)
        merged["controller"] = {**{k: v for k, v in controller.items() if k not in dropped}, **changes}
    if "id" in override:
        merged["instance"] = [{"id": override["id"]}]
    return merged


class _Loader:
    """Reads the instances of one file; what they share is read and compiled once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: dict[tuple[str, str], Any] = {}

    def _once(self, what: str, data: Any, make: Callable[[], _T]) -> _T:
        key = (what, repr(data))
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def instance(self, identity: str, document: Mapping[str, Any]) -> Instance:
        """One instance from its merged tables."""
        file = f"{self.path}: instance {identity}" if identity else str(self.path)
        place = Place(file)
        given, controls, functions = (document.get(key) for key in ("plant", "controller", "functions"))
        plant, formulas = self._once("plant", given, lambda: read_plant(place.at("plant"), given))
        controller = None
        if controls is not None:
            controller = self._once(
                "controller", (given, controls),
                lambda: read_controller(place.at("controller"), controls, formulas, plant.kind, self.network),
            )  # fmt: skip
        elif plant.signals.inputs:
            place.at("controller").fail(
                f"the table is missing, the plant has inputs: {', '.join(plant.signals.inputs)}"
            )
        named = self._once(
            "functions", (given, functions),
            lambda: read_functions(place.at("functions"), functions or {}, formulas, self.network),
        )  # fmt: skip
        loop = LoopData(plant, controller, named)
        initial = read_initial(place.at("initial"), document["initial"], loop) if "initial" in document else None
        steps, time = None, None
        if "horizon" in document:
            steps, time = read_horizon(place.at("horizon"), document["horizon"], loop)
        setting = Setting(loop, formulas, initial, steps, time)
        properties = read_properties(Place(file, "[[property]]"), document.get("property", []), setting)
        expected = choice(place.field("expected"), document["expected"], _EXPECTED) if "expected" in document else None
        return Instance(identity, loop, properties, initial, steps, time, expected, document)

    def network(self, place: Place, value: Any) -> Model:
        """The network a field names by a path relative to the file."""
        text = string(place, value)
        path = self.path.parent / text
        if not text or PurePosixPath(text).is_absolute() or Path(text).is_absolute():
            place.fail(f"found {text!r}, expected a path relative to the problem file")
        if not path.is_file():
            place.fail(f"the file {text} does not exist beside the problem file")
        try:
            return self._once("network", str(path), lambda: load_model(path))
        except UnsupportedOperatorError:
            raise  # it says which operators of which file
        except ModelError as error:
            raise ModelError(f"{place}: {error}") from error


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The tables of the file with exact numbers, and the hash of its bytes."""
    try:
        if path.stat().st_size > LARGEST:
            raise PropertyError(f"{path}: the file has {path.stat().st_size} bytes, at most {LARGEST} are accepted")
        data = path.read_bytes()
        return tomllib.loads(data.decode("utf-8"), parse_float=_decimal), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise PropertyError(f"{path}: the file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise PropertyError(f"{path}: the file is not UTF-8 text (byte {error.start})") from error
    except RecursionError as error:
        raise PropertyError(f"{path}: the tables and arrays nest too deep") from error
    except ValueError as error:  # syntax, and integers of thousands of digits
        raise PropertyError(f"{path}: not a TOML file: {error}") from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"the number {text[:40]} cannot be read") from error
