"""The Python interface: the verbs of the command line as functions of files or loaded objects.

Stands above the search and beside the command line; adds nothing but the choice between a path and an object.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from holdfast.errors import InputError, MismatchError, UnsupportedError
from holdfast.graph import Model
from holdfast.load.onnx import load_model
from holdfast.load.vnnlib import load_property as read_property
from holdfast.spec.property import Property
from holdfast.verdict import Reason, Result, Verdict

if TYPE_CHECKING:
    from holdfast.bounds.bounder import Bounds
    from holdfast.invariance.find import Found
    from holdfast.reachability.tube import Tube
    from holdfast.search.verify import Progress
    from holdfast.spec.temporal import Instance, Problem

File = str | PathLike[str]


def load_property(path: File) -> Property:
    """Reads a property from a VNN-LIB file (1.0 or 2.0; ``.vnnlib`` or ``.vnnlib.gz``).

    Raises `holdfast.PropertyError` with file and line where the file cannot be read or makes no sense.
    """
    return read_property(Path(path))


def bound(
    model: Model | File,
    lower: Any,
    upper: Any,
    method: Literal["interval", "backward", "optimised"] = "backward",
    semantics: Literal["real", "float32"] = "real",
) -> Bounds:
    """Certified bounds of the outputs over a box of inputs, or over many boxes at once.

    ``lower``, ``upper``: arrays in the shape of the network's input, or flat (several inputs: flat, one after the
    other). Further axes in front mean one box per index. The result's ``lower`` and ``upper`` have the shape of the
    output (several outputs: flat), after the same axes; for every input of a box each output lies between them, with
    no tolerance. Raises `holdfast.InputError` for a box that does not fit.
    """
    from holdfast.bounds.bounder import Bounds
    from holdfast.bounds.bounder import bound as compute

    network = _model(model)
    size = sum(math.prod(tensor.shape) for tensor in network.inputs)
    shape = tuple(network.inputs[0].shape) if len(network.inputs) == 1 else (size,)
    outputs = tuple(network.outputs[0].shape) if len(network.outputs) == 1 else (-1,)
    ends, fronts = [], []
    for name, array in (("lower", lower), ("upper", upper)):
        try:
            values = np.asarray(array, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name}: is no array of numbers ({error})") from error
        front = next((values.shape[: -len(s)] for s in (shape, (size,)) if s and values.shape[-len(s) :] == s), None)
        if front is None and values.size == size:
            front = ()  # one box, in a shape of its own
        if front is None or not values.size:
            raise MismatchError(
                f"{name}: has the shape {values.shape}; accepted is {shape}"
                + (f" or {(size,)}" if shape != (size,) else "")
                + ", with any axes in front for many boxes"
            )
        ends.append(values.reshape(*front, *shape))
        fronts.append(front)
    if fronts[0] != fronts[1]:
        raise MismatchError(
            f"lower has the axes {fronts[0]} in front, upper {fronts[1]}; accepted are the same for both"
        )
    found = compute(network, ends[0], ends[1], method=method, semantics=semantics)
    below, above = (end.reshape(*fronts[0], *outputs) for end in (found.lower, found.upper))
    return Bounds(below, above, found.method, found.semantics)


def verify(
    network: Model | File | Mapping[str, Model | File],
    property: Property | File,
    *,
    timeout: float | None = None,
    semantics: Literal["real", "float32"] | None = None,
    workers: int | None = None,
    memory_mib: int | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    certificate: File | None = None,
) -> Result:
    """Proves or refutes a property.

    ``network``: a loaded model or a file; for a VNN-LIB 2.0 property with several networks, name -> model or file.
    ``timeout`` in seconds. ``semantics``: the arithmetic of the claim; by default what the property declares, else
    the real numbers. The Result's verdict is ``VERIFIED`` (proved by outward-rounded bounds), ``FALSIFIED`` (with a
    replayed counterexample), ``UNKNOWN`` or ``TIMEOUT``. ``certificate``: file for what proves the answer, to be checked
    with `check`. Raises `holdfast.InputError` where the files cannot be used.
    """
    from holdfast.search.verify import verify as search

    prop = property if isinstance(property, Property) else load_property(property)
    return search(
        {name: _model(one) for name, one in network.items()} if isinstance(network, Mapping) else _model(network),
        prop,
        timeout=timeout,
        semantics=semantics,
        workers=workers,
        memory_mib=memory_mib,
        seed=seed,
        progress=progress,
        certificate=None if certificate is None else Path(certificate),
    )


def load_problem(path: File) -> Problem:
    """Reads a problem file (``holdfast-problem/1``): a closed loop and what is claimed of it.

    Raises `holdfast.PropertyError` (`holdfast.ModelError` for a network) with the key that is at fault.
    """
    from holdfast.load.problem import load_problem as read_problem

    return read_problem(Path(path))


def verify_problem(
    problem: Problem | File,
    instance: str | None = None,
    *,
    timeout: float | None = None,
    workers: int | None = None,
    memory_mib: int | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    certificate: File | None = None,
) -> dict[str, Result]:
    """Proves or refutes what the instances of a problem claim of their closed loops: id -> result.

    ``instance``: only this one. ``timeout`` in seconds, for all of them: each may use its share of what is left.
    ``certificate``: file for what proves the answer; of several instances, a folder that gets one file each. A claim that
    this version cannot decide is UNKNOWN (`Reason.UNSUPPORTED`); after an interrupt the instances that were not run are
    UNKNOWN (`Reason.INTERRUPTED`). Raises `holdfast.InputError` where the file cannot be used.
    """
    from holdfast.reachability.decide import decide

    start = time.monotonic()
    loaded = _problem(problem)
    chosen = choose(loaded, instance)
    targets = certificate_files(chosen, certificate)
    results: dict[str, Result] = {}
    for k, one in enumerate(chosen):
        begin = time.monotonic()
        share = None if timeout is None else max(0.0, timeout - (begin - start)) / (len(chosen) - k)
        try:
            result = decide(
                loaded, one, timeout=share, workers=workers, memory_mib=memory_mib, seed=seed,
                progress=progress, certificate=targets[one.id],
            )  # fmt: skip
        except UnsupportedError as error:
            seconds = time.monotonic() - begin
            result = Result(Verdict.UNKNOWN, Reason.UNSUPPORTED, f"not supported yet: {error}", seconds=seconds)
        except KeyboardInterrupt:
            result = Result(Verdict.UNKNOWN, Reason.INTERRUPTED)
        results[one.id] = result
        if result.reason is Reason.INTERRUPTED:
            for other in chosen[k + 1 :]:
                results[other.id] = Result(Verdict.UNKNOWN, Reason.INTERRUPTED, "not run")
            break
    return results


def find_invariant(
    problem: Problem | Instance | File,
    instance: str | None = None,
    *,
    timeout: float = 60.0,
    seed: int = 0,
    kind: Literal["auto", "parallelotope", "ellipsoid", "box"] = "auto",
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
) -> list[Found]:
    """Finds sets around an equilibrium that the closed loop never leaves, and proves them: the largest first.

    ``problem``: a problem (file), or a closed loop such as `holdfast.Loop` makes. ``instance``: which one of several.
    ``timeout`` in seconds. Empty where no set was proved. Each set comes with its volume and with a problem that asks for
    exactly this set (``.instance``), to be verified and written. Raises `holdfast.InputError`.
    """
    from holdfast.invariance.find import find_invariant as find
    from holdfast.invariance.find_sampled import find_sampled
    from holdfast.invariance.plans import is_sampled
    from holdfast.loop import close
    from holdfast.spec.temporal import Instance

    one = problem if isinstance(problem, Instance) else one_instance(_problem(problem), instance)
    tell = progress or (lambda _: None)
    if is_sampled(one.loop):  # sets that are never left, between samples neither
        return find_sampled(one, timeout=timeout, seed=seed, workers=workers, tell=tell).found
    return find(close(one.loop), one, timeout=timeout, seed=seed, kind=kind, workers=workers, tell=tell)


def reach(
    loop: Problem | Instance | File,
    initial: Any = None,
    horizon: Any = None,
    *,
    instance: str | None = None,
    timeout: float | None = 60.0,
    memory_mib: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Tube:
    """The flow tube of a loop: an enclosure of everything it can do from an initial set over a horizon.

    ``loop``: a problem (file), or a closed loop such as `holdfast.Loop` makes; ``instance``: which one of several. ``initial``: state -> number or
    interval, or (lower, upper), or a list of such mappings; by default that of the problem. ``horizon``: seconds (maps: steps), a whole number of periods.
    ``timeout`` in seconds. A tube that does not get to the horizon says in ``.stopped`` when and why. Raises `holdfast.InputError`.
    """
    from holdfast.reachability.reach import TOGETHER, reach_tube
    from holdfast.reachability.start import horizon as seconds
    from holdfast.reachability.start import initial_boxes
    from holdfast.spec.temporal import Instance

    where = "reach"
    if isinstance(loop, Instance):
        one = loop
    else:
        problem = _problem(loop)
        one = one_instance(problem, instance)
        where = f"{problem.path}: instance {one.id}" if one.id else problem.path or where
    return reach_tube(
        one.loop, initial_boxes(one, initial, where), seconds(one, horizon, where), timeout=timeout,
        memory_mib=memory_mib or TOGETHER, tell=progress or (lambda _: None), where=where,
    )  # fmt: skip


def one_instance(problem: Problem, instance: str | None = None) -> Instance:
    """The instance of that id, claims or not; without an id the only one. Raises InputError."""
    ids = [one.id for one in problem.instances]
    if instance is None and len(ids) > 1:
        raise InputError(f"{problem.path}: has the instances {', '.join(ids)}; accepted is one of them")
    if instance is not None and instance not in ids:
        known = ", ".join(i for i in ids if i) or "none, the file is one problem"
        raise InputError(f"{problem.path}: has no instance '{instance}'; its instances: {known}")
    return problem.instances[0 if instance is None else ids.index(instance)]


def choose(problem: Problem, instance: str | None = None) -> tuple[Instance, ...]:
    """The instances asked about: all that claim something, or the one of that id. Raises InputError."""
    if instance is None:
        claiming = tuple(one for one in problem.instances if one.properties)
        if not claiming:
            raise InputError(f"{problem.path}: nothing is claimed; accepted is a problem with a [[property]]")
        return claiming
    found = one_instance(problem, instance)
    if not found.properties:
        raise InputError(f"{problem.path}: instance {instance}: nothing is claimed; accepted is one with a property")
    return (found,)


def certificate_files(instances: tuple[Instance, ...], target: File | None) -> dict[str, Path | None]:
    """Where the certificate of each instance goes. Raises InputError for one file and several instances."""
    if target is None:
        return {one.id: None for one in instances}
    path = Path(target)
    if path.is_dir():
        return {one.id: path / f"{(one.id or 'certificate').replace('/', '_')}.hfc" for one in instances}
    if len(instances) > 1:
        raise InputError(
            f"{path}: is one file, but there are {len(instances)} instances; accepted is an existing folder, "
            "or one instance (--instance ID)"
        )
    return {instances[0].id: path}


def _problem(problem: Problem | File) -> Problem:
    return load_problem(problem) if isinstance(problem, str | PathLike) else problem


def _model(network: Model | File) -> Model:
    return network if isinstance(network, Model) else load_model(Path(network))
