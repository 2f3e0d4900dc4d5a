"""TensorProto -> Constant: element types, claimed against present sizes, external data inside the model's folder.

First step of loading; nothing is allocated before the claimed size is compared with the bytes that are there.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import ModelError
from holdfast.load.constants import Constant

ELEMENT_LIMIT = 2**30  # elements of one tensor

# ONNX data type: (name, little-endian dtype of raw data, field of typed data)
_TYPES: dict[int, tuple[str, str, str]] = {
    1: ("float32", "<f4", "float_data"),
    2: ("uint8", "<u1", "int32_data"),
    3: ("int8", "<i1", "int32_data"),
    4: ("uint16", "<u2", "int32_data"),
    5: ("int16", "<i2", "int32_data"),
    6: ("int32", "<i4", "int32_data"),
    7: ("int64", "<i8", "int64_data"),
    9: ("bool", "|b1", "int32_data"),
    10: ("float16", "<f2", "int32_data"),
    11: ("float64", "<f8", "double_data"),
    12: ("uint32", "<u4", "uint64_data"),
    13: ("uint64", "<u8", "uint64_data"),
    16: ("bfloat16", "<u2", "int32_data"),
}


def element_type(code: int) -> str | None:
    """NumPy's name of an ONNX element type (and bfloat16); None for the types no value here can have."""
    return _TYPES[code][0] if code in _TYPES else None


def element_count(dims: Any, what: str) -> int:
    """Product of the dimensions, or ModelError where they are negative or absurd."""
    if any(d < 0 for d in dims):
        raise ModelError(f"{what} claims the shape {tuple(dims)}; dimensions cannot be negative")
    count = math.prod(dims)
    if math.prod(max(1, d) for d in dims) > ELEMENT_LIMIT or len(dims) > 32:  # NumPy refuses (0, 2**62) as well
        raise ModelError(f"{what} claims the shape {tuple(dims)}; at most {ELEMENT_LIMIT} elements are accepted")
    return count


def read_tensor(tensor: Any, what: str) -> Constant:
    """The constant of a TensorProto (inline data only). ``what`` names it in messages."""
    code, dims = tensor.data_type, tuple(tensor.dims)
    if code not in _TYPES:
        raise ModelError(f"{what} has the element type number {code}; accepted are floats, integers and booleans")
    name, raw_type, field = _TYPES[code]
    count = element_count(dims, what)
    if tensor.data_location == 1:
        raise ModelError(f"{what} keeps its data outside the file, which is accepted for initializers only")
    if tensor.HasField("raw_data"):
        item, present = np.dtype(raw_type).itemsize, len(tensor.raw_data)
        if present != count * item:
            raise ModelError(f"{what} claims the shape {dims} of {name}, {count * item} bytes, but has {present} bytes")
        array = np.frombuffer(tensor.raw_data, raw_type)
    else:
        values = getattr(tensor, field)
        if len(values) != count:
            raise ModelError(f"{what} claims the shape {dims}, {count} elements, but has {len(values)}")
        array = _typed(np.array(values), name)
    array = array.reshape(dims)
    if name == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if name == "float16" and array.dtype != np.float16:
        array = array.astype(np.uint16).view(np.float16)
    if name in ("float16", "bfloat16", "float32", "float64"):
        return Constant(array.astype(np.float64), None, name, tensor.name)
    return Constant(array.astype(name), None, name, tensor.name)


def _typed(values: np.ndarray, name: str) -> np.ndarray:
    if name in ("float16", "bfloat16"):
        return values.astype(np.uint16)
    return values.astype(name)


def inline_external_data(model: Any, folder: Path, where: str, limit: int) -> bool:
    """Copy external initializer data into the model (for replay). True if there was any.

    Only files inside ``folder`` are read: no absolute path, no '..', no symbolic link that leaves it.
    """
    found = False
    total = 0
    for tensor in model.graph.initializer:
        if tensor.data_location != 1:
            continue
        found = True
        what = f"{where}: initializer '{tensor.name}'"
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        target = _inside(folder, location, what)
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", "-1"))
        except ValueError:
            raise ModelError(f"{what} has an external offset or length that is not a number") from None
        if tensor.data_type not in _TYPES:
            raise ModelError(f"{what} has the element type number {tensor.data_type}, which is not accepted")
        expected = element_count(tensor.dims, what) * np.dtype(_TYPES[tensor.data_type][1]).itemsize
        size = target.stat().st_size
        total += expected
        if length not in (-1, expected) or offset < 0 or offset + expected > size:
            raise ModelError(
                f"{what} claims {expected} bytes at offset {offset} of '{location}', which has {size} bytes"
            )
        if total > limit:
            raise ModelError(f"{where}: its external data exceed the limit of {limit} bytes")
        with target.open("rb") as handle:
            handle.seek(offset)
            tensor.raw_data = handle.read(expected)
        tensor.data_location = 0
        del tensor.external_data[:]
    return found


def _inside(folder: Path, location: str, what: str) -> Path:
    root = folder.resolve()
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or location.startswith(("/", "\\")) or ":" in location or ".." in parts:
        raise ModelError(f"{what} has its data in '{location}'; accepted are files inside the model's folder")
    target = (root / location).resolve()
    if not target.is_relative_to(root):
        raise ModelError(f"{what} has its data in '{location}', which leaves the model's folder")
    if not target.is_file():
        raise ModelError(f"{what} has its data in '{location}', which is not a file in the model's folder")
    return target
