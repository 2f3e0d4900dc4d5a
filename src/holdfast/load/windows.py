"""Geometry of sliding windows: padding, rounding and output sizes of ONNX convolutions and pools.

Reference: ONNX operator specification, Conv, AveragePool, MaxPool (auto_pad, ceil_mode).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.load.context import Context

_KERNEL_LIMIT = 2**16  # positions of one window


@dataclass(frozen=True)
class Windows:
    """Per spatial axis: kernel size, stride, dilation, (before, after) padding, and number of windows."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    out: tuple[int, ...]

    def positions(self, axis: int, window: int, size: int, padding: bool = False) -> list[int]:
        """Input positions under a window that are inside the input (or inside its padding too)."""
        start = window * self.strides[axis] - self.pads[axis][0]
        low, high = (-self.pads[axis][0], size + self.pads[axis][1]) if padding else (0, size)
        places = (start + k * self.dilations[axis] for k in range(self.kernel[axis]))
        return [p for p in places if low <= p < high]


def per_axis(ctx: Context, key: str, rank: int, default: Sequence[int], least: int = 1) -> tuple[int, ...]:
    """A list attribute with one number per spatial axis."""
    values = tuple(ctx.node.get(key) or default)
    if len(values) != len(default) or any(not least <= v <= 2**24 for v in values):
        raise ValueError(f"its {key} {values} do not fit {rank} spatial axes")
    return values


def windows(ctx: Context, space: Sequence[int], kernel: Sequence[int]) -> Windows:
    """Windows of the node at hand over an input of spatial shape ``space``."""
    rank = len(space)
    count = 1
    for k in kernel:
        count *= k
    if len(kernel) != rank or not 0 < count <= _KERNEL_LIMIT or min(kernel, default=1) < 1:
        raise ValueError(f"a kernel of shape {tuple(kernel)} does not fit an input of spatial shape {tuple(space)}")
    declared = tuple(ctx.node.get("kernel_shape") or kernel)
    if declared != tuple(kernel):
        raise ValueError(f"its kernel_shape {declared} contradicts its weights of kernel shape {tuple(kernel)}")
    strides = per_axis(ctx, "strides", rank, (1,) * rank)
    dilations = per_axis(ctx, "dilations", rank, (1,) * rank)
    flat = per_axis(ctx, "pads", rank, (0,) * 2 * rank, least=0)
    pads = list(zip(flat[:rank], flat[rank:], strict=True))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    automatic = ctx.node.get("auto_pad", "NOTSET") or "NOTSET"
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            whole = max(0, (-(-space[i] // strides[i]) - 1) * strides[i] + spans[i] - space[i])
            half, rest = whole // 2, whole - whole // 2
            pads[i] = (half, rest) if automatic == "SAME_UPPER" else (rest, half)
    elif automatic == "VALID":
        pads = [(0, 0)] * rank
    elif automatic != "NOTSET":
        raise ValueError(f"auto_pad {automatic!r} is not one of NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    out = []
    for i in range(rank):
        room = space[i] + sum(pads[i]) - spans[i]
        if room < 0:
            raise ValueError(
                f"a kernel of shape {tuple(kernel)} is larger than its padded input of spatial shape {tuple(space)}"
            )
        n = room // strides[i] + 1
        if ctx.node.get("ceil_mode", 0) and room % strides[i] and n * strides[i] < space[i] + pads[i][0]:
            n += 1  # one more window, unless it would start in the padding behind
        out.append(n)
    return Windows(tuple(kernel), strides, dilations, tuple(pads), tuple(out))
