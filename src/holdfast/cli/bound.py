"""`holdfast bound`: certified bounds of a network's outputs over a box of inputs."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from holdfast.cli.contract import Debug, emit, require_file, verb
from holdfast.errors import InputError, MismatchError
from holdfast.report.json import require_writable, write_json

if TYPE_CHECKING:
    import numpy as np

    from holdfast.graph import Model


@verb
def bound(
    network: Annotated[Path, typer.Argument(metavar="NET", help="network.onnx")],
    region: Annotated[
        str, typer.Argument(metavar="REGION", help="property.vnnlib (its input boxes), or lower:upper,... per input.")
    ],
    method: Annotated[
        Literal["interval", "backward", "optimised"], typer.Option("--method", help="How the bounds are computed.")
    ] = "backward",
    semantics: Annotated[
        Literal["real", "float32"], typer.Option("--semantics", help="Arithmetic of the claim.")
    ] = "real",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the bounds in full precision as JSON.")
    ] = None,
    debug: Debug = False,
) -> int:
    """Print lower and upper bounds that every output keeps on the region, rounded outward. Exit status 0."""
    require_file(network, "network")
    if json_file is not None:
        require_writable(json_file)
    is_file = region.removesuffix(".gz").endswith(".vnnlib")
    intervals = None if is_file else parse_region(region)
    if is_file:
        require_file(Path(region), "region")

    from holdfast.bounds.bounder import bound as compute
    from holdfast.load.onnx import load_model
    from holdfast.report.bounds import bounds_json, bounds_text

    boxes = [arrays(intervals)] if intervals is not None else property_boxes(Path(region))
    model = load_model(network)
    size = sum(math.prod(tensor.shape) for tensor in model.inputs)
    answers = []
    for lower, upper in boxes:
        if len(lower) != size:
            raise MismatchError(f"region {region}: has {len(lower)} inputs, but the network {network} has {size}")
        shape = model.inputs[0].shape if len(model.inputs) == 1 else lower.shape
        found = compute(model, lower.reshape(shape), upper.reshape(shape), method=method, semantics=semantics)
        answers.append((lower, upper, found.lower, found.upper))
    if json_file is not None:
        write_json(json_file, bounds_json(answers, method=method, semantics=semantics))
    emit(bounds_text(answers, output_names(model)))
    return 0


def parse_region(text: str) -> list[tuple[float, float]]:
    """``lower:upper,lower:upper,...`` (a single number is a point) as float64 intervals that enclose the decimals.

    Raises InputError.
    """
    intervals: list[tuple[float, float]] = []
    for k, part in enumerate(text.split(",")):
        ends = part.split(":")
        if len(ends) > 2:
            raise InputError(f"region, input {k}: found '{part}'; accepted is lower:upper")
        enclosures = [_number(end, k) for end in ends]
        if enclosures[0][0] > enclosures[-1][1]:
            raise InputError(f"region, input {k}: the lower bound {ends[0]} is above the upper bound {ends[-1]}")
        intervals.append((enclosures[0][0], enclosures[-1][1]))
    return intervals


def arrays(intervals: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends as two flat float64 arrays."""
    import numpy as np

    ends = np.asarray(intervals, dtype=np.float64)
    return ends[:, 0], ends[:, 1]


def property_boxes(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """The distinct input boxes of a property file, flat."""
    from holdfast.load.vnnlib import load_property

    boxes: dict[int, Any] = {}  # cases with the same box share one object
    for case in load_property(path).cases:
        boxes.setdefault(id(case.box), case.box)
    return [(box.lower, box.upper) for box in boxes.values()]


def output_names(model: Model) -> list[str]:
    """One name per flat output: tensor name and index."""
    return [f"{tensor.name}[{k}]" for tensor in model.outputs for k in range(math.prod(tensor.shape))]


def _number(text: str, index: int) -> tuple[float, float]:
    """The tightest float64 enclosure of a decimal."""
    text = text.strip()
    try:
        nearest = float(text)
        if not math.isfinite(nearest) or not text.isascii() or "_" in text:
            raise ValueError
    except ValueError:
        raise InputError(
            f"region, input {index}: found '{text}'; accepted are finite decimal numbers lower:upper, or a .vnnlib file"
        ) from None
    if nearest == 0:  # an underflow may have an exponent of any size: never write that number out
        if not any(c in "123456789" for c in text.lower().split("e")[0]):
            return 0.0, 0.0
        return (math.nextafter(0.0, -1.0), 0.0) if text.startswith("-") else (0.0, math.nextafter(0.0, 1.0))
    exact = Fraction(text)
    lower = nearest if Fraction(nearest) <= exact else math.nextafter(nearest, -math.inf)
    upper = nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)
    return lower, upper
