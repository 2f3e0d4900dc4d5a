"""The ONNX operators over the reals, written from the specification on balls: nothing of the loader is used.

Constants are the numbers of the file, exactly. Attributes are those that `onnx_files` writes, no more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flint
import numpy as np
import onnx
from onnx import numpy_helper

from random_networks.exact import ONE, ZERO, Balls, balls, each, leaky, sigmoid, softplus

Attributes = Mapping[str, Any]
Values = list[Any]


def run(model: onnx.ModelProto, inputs: Mapping[str, Balls]) -> dict[str, Any]:
    """All values of the model at one point, by name."""
    known: dict[str, Any] = dict(inputs)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        known[tensor.name] = balls(array) if array.dtype.kind == "f" else array
    for node in model.graph.node:
        given = [known[name] if name else None for name in node.input]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        results = OPS[node.op_type](given, attributes, len(node.output))
        known.update(zip(node.output, results if isinstance(results, tuple) else (results,), strict=True))
    return known


def _arb(x: float) -> flint.arb:
    return flint.arb(float(x))


def _sign(z: flint.arb) -> flint.arb:
    return ONE if z > 0 else -ONE if z < 0 else ZERO if z == 0 else flint.arb(0, 1)


def _both(f: Callable[[flint.arb, flint.arb], flint.arb], a: Balls, b: Balls) -> Balls:
    a, b = np.broadcast_arrays(a, b)
    out = np.empty(a.shape, object)
    out.reshape(-1)[:] = [f(x, y) for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True)]
    return out


def _larger(a: Balls, b: Balls) -> Balls:
    return _both(lambda x, y: flint.arb(x).max(y), a, b)


def _smaller(a: Balls, b: Balls) -> Balls:
    return _both(lambda x, y: flint.arb(x).min(y), a, b)


def _fold(f: Callable[[Balls, Balls], Balls], xs: Sequence[Balls]) -> Balls:
    total = xs[0]
    for x in xs[1:]:
        total = f(total, x)
    return total


def _matmul(x: Values, a: Attributes, n: int) -> Balls:
    return np.asarray(np.matmul(x[0], x[1]))


def _gemm(x: Values, a: Attributes, n: int) -> Balls:
    left = x[0].T if a.get("transA") else x[0]
    right = x[1].T if a.get("transB") else x[1]
    y = _arb(a.get("alpha", 1.0)) * (left @ right)
    return y + _arb(a.get("beta", 1.0)) * x[2] if len(x) > 2 else y


def _pads(a: Attributes, rank: int) -> list[tuple[int, int]]:
    flat = a.get("pads", [0] * 2 * rank)
    return list(zip(flat[:rank], flat[rank:], strict=True))


def _geometry(
    a: Attributes, space: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[tuple[int, int]], list[int]]:
    """Strides, dilations, pads, output sizes."""
    rank = len(space)
    strides, dilations = list(a.get("strides", [1] * rank)), list(a.get("dilations", [1] * rank))
    pads = _pads(a, rank)
    out = []
    for n, k, s, d, (b, e) in zip(space, kernel, strides, dilations, pads, strict=True):
        room = n + b + e - ((k - 1) * d + 1)
        count = room // s + 1
        if a.get("ceil_mode") and room % s and (count * s) < n + b:
            count += 1
        out.append(count)
    return strides, dilations, pads, out


def _windows(
    a: Attributes, space: Sequence[int], kernel: Sequence[int]
) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Per output place the (kernel position, input position) pairs; input positions may lie in the padding."""
    strides, dilations, pads, out = _geometry(a, space, kernel)
    return [
        [
            (k, tuple(p * s + q * d - b for p, s, q, d, (b, _) in zip(place, strides, k, dilations, pads, strict=True)))
            for k in itertools.product(*map(range, kernel))
        ]
        for place in itertools.product(*map(range, out))
    ]


def _within(i: Sequence[int], space: Sequence[int]) -> bool:
    return all(0 <= p < n for p, n in zip(i, space, strict=True))


def _conv(x: Values, a: Attributes, n: int) -> Balls:
    data, w = x[0], x[1]
    space, kernel, groups = data.shape[2:], w.shape[2:], a.get("group", 1)
    out = _geometry(a, space, kernel)[3]
    windows = _windows(a, space, kernel)
    y = np.empty((data.shape[0], w.shape[0], len(windows)), object)
    each_in, each_out = w.shape[1], w.shape[0] // groups
    for b, m, place in itertools.product(range(y.shape[0]), range(y.shape[1]), range(y.shape[2])):
        total = x[2][m] if len(x) > 2 else ZERO
        for k, i in windows[place]:
            if _within(i, space):
                for c in range(each_in):
                    total = total + w[(m, c, *k)] * data[(b, m // each_out * each_in + c, *i)]
        y[b, m, place] = total
    return y.reshape(*y.shape[:2], *out)


def _conv_transpose(x: Values, a: Attributes, n: int) -> Balls:
    data, w = x[0], x[1]
    space, kernel, groups, rank = data.shape[2:], w.shape[2:], a.get("group", 1), len(w.shape) - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    pads, extra = _pads(a, rank), a.get("output_padding", [0] * rank)
    out = [
        s * (n - 1) + e + (k - 1) * d + 1 - b - f
        for n, k, s, d, e, (b, f) in zip(space, kernel, strides, dilations, extra, pads, strict=True)
    ]
    channels, each_in = w.shape[1] * groups, w.shape[0] // groups
    y = balls(np.zeros((data.shape[0], channels, *out)))
    for b, c, m in itertools.product(range(data.shape[0]), range(w.shape[0]), range(w.shape[1])):
        for i in itertools.product(*map(range, space)):
            for k in itertools.product(*map(range, kernel)):
                o = tuple(p * s + q * d - f for p, s, q, d, (f, _) in zip(i, strides, k, dilations, pads, strict=True))
                if _within(o, out):
                    y[(b, c // each_in * w.shape[1] + m, *o)] += data[(b, c, *i)] * w[(c, m, *k)]
    if len(x) > 2:
        y = y + x[2].reshape(-1, *(1,) * rank)
    return y


def _pool(largest: bool) -> Callable[[Values, Attributes, int], Balls]:
    def pool(x: Values, a: Attributes, n: int) -> Balls:
        data, kernel = x[0], a["kernel_shape"]
        space = data.shape[2:]
        pads = _pads(a, len(space))
        windows, out = _windows(a, space, kernel), _geometry(a, space, kernel)[3]
        y = np.empty((*data.shape[:2], len(windows)), object)
        for b, c, place in itertools.product(*map(range, y.shape)):
            held = [data[(b, c, *i)] for _, i in windows[place] if _within(i, space)]
            if largest:
                y[b, c, place] = _fold(lambda p, q: p.max(q), held)
                continue
            count = len(held)
            if a.get("count_include_pad"):
                padded = [-f for f, _ in pads], [m + e for m, (_, e) in zip(space, pads, strict=True)]
                count = sum(
                    all(lo <= p < hi for lo, p, hi in zip(padded[0], i, padded[1], strict=True))
                    for _, i in windows[place]
                )
            y[b, c, place] = sum(held, ZERO) / count
        return y.reshape(*data.shape[:2], *out)

    return pool


def _batch_normalization(x: Values, a: Attributes, n: int) -> Balls:
    data = x[0]
    scale, bias, mean, variance = (v.reshape(-1, *(1,) * (data.ndim - 2)) for v in x[1:5])
    spread = each(lambda v: v.sqrt(), variance + _arb(a.get("epsilon", np.float32(1e-5))))
    return (data - mean) / spread * scale + bias


def _softmax(x: Values, a: Attributes, n: int) -> Balls:
    e = each(lambda z: z.exp(), x[0])
    return e / e.sum(axis=a.get("axis", -1), keepdims=True)


def _reduce(f: Callable[[Balls, tuple[int, ...]], Balls]) -> Callable[[Values, Attributes, int], Balls]:
    def reduce(x: Values, a: Attributes, n: int) -> Balls:
        axes = (
            tuple(a["axes"]) if "axes" in a else tuple(int(i) for i in x[1]) if len(x) > 1 else tuple(range(x[0].ndim))
        )
        axes = tuple(i % x[0].ndim for i in axes)
        y = f(x[0], axes)
        kept = [1 if i in axes else m for i, m in enumerate(x[0].shape)]
        return np.asarray(y).reshape(
            kept if a.get("keepdims", 1) else [m for i, m in enumerate(x[0].shape) if i not in axes]
        )

    return reduce


def _extreme(f: Callable[[Balls, Balls], Balls]) -> Callable[[Balls, tuple[int, ...]], Balls]:
    def over(x: Balls, axes: tuple[int, ...]) -> Balls:
        for axis in sorted(axes, reverse=True):
            x = _fold(f, [np.take(x, i, axis=axis) for i in range(x.shape[axis])])
        return x

    return over


def _mean(x: Balls, axes: tuple[int, ...]) -> Balls:
    return np.asarray(x.sum(axis=axes)) / math.prod(x.shape[i] for i in axes)


def _slice(x: Values, a: Attributes, n: int) -> Balls:
    index = [slice(None)] * x[0].ndim
    for start, end, axis, step in zip(*(v.tolist() for v in x[1:5]), strict=True):
        positions = range(x[0].shape[axis])[start:end:step]
        index[axis] = list(positions)  # type: ignore[call-overload]
        x = [np.take(x[0], index[axis], axis=axis), *x[1:]]
    return x[0]


def _split(x: Values, a: Attributes, n: int) -> tuple[Balls, ...]:
    return tuple(np.split(x[0], np.cumsum(x[1])[:-1].tolist(), axis=a.get("axis", 0)))


def _pad(x: Values, a: Attributes, n: int) -> Balls:
    rank, mode = x[0].ndim, a.get("mode", b"constant").decode()
    around = list(zip(x[1][:rank].tolist(), x[1][rank:].tolist(), strict=True))
    if mode != "constant":
        return np.pad(x[0], around, mode=mode)
    fill = flint.arb(x[2].reshape(-1)[0]) if len(x) > 2 else ZERO
    shape = [m + b + e for m, (b, e) in zip(x[0].shape, around, strict=True)]
    y = np.empty(shape, object)
    y.reshape(-1)[:] = [fill] * y.size
    y[tuple(slice(b, b + m) for m, (b, _) in zip(x[0].shape, around, strict=True))] = x[0]
    return y


def _clip(x: Values, a: Attributes, n: int) -> Balls:
    low, high = (x[i].reshape(()) if len(x) > i and x[i] is not None else None for i in (1, 2))
    y = x[0] if low is None else _larger(x[0], low)
    return y if high is None else _smaller(y, high)


def _pow(x: Values, a: Attributes, n: int) -> Balls:
    e = float(x[1].reshape(-1)[0].mid())
    if e == 0.5:
        return each(lambda z: z.sqrt(), x[0])
    return each(lambda z: z ** int(e) if e >= 0 else 1 / z ** int(-e), x[0] + 0 * x[1])


def _prelu(x: Values, a: Attributes, n: int) -> Balls:
    return _both(lambda z, s: z if z >= 0 else s * z if z <= 0 else z.union(s * z).union(ZERO), x[0], x[1])


def _unsqueeze(x: Values, a: Attributes, n: int) -> Balls:
    return np.expand_dims(x[0], tuple(x[1].tolist()))


def _gather_nd(x: Values, a: Attributes, n: int) -> Balls:
    return x[0][tuple(np.moveaxis(x[1], -1, 0))]


def _resize(x: Values, a: Attributes, n: int) -> Balls:
    """Nearest, asymmetric, floor, whole factors: every element as often as the factor says."""
    y = x[0]
    for axis, factor in enumerate(int(float(s.mid())) for s in x[-1]):
        y = np.repeat(y, factor, axis=axis)
    return y


def _one(f: Callable[[flint.arb], flint.arb]) -> Callable[[Values, Attributes, int], Balls]:
    return lambda x, a, n: each(f, x[0])


OPS: dict[str, Callable[[Values, Attributes, int], Any]] = {
    "Add": lambda x, a, n: x[0] + x[1], "Sub": lambda x, a, n: x[0] - x[1], "Mul": lambda x, a, n: x[0] * x[1],
    "Div": lambda x, a, n: x[0] / x[1], "Sum": lambda x, a, n: _fold(np.add, x), "Mean": lambda x, a, n: _fold(np.add, x) / len(x),
    "Max": lambda x, a, n: _fold(_larger, x), "Min": lambda x, a, n: _fold(_smaller, x), "Neg": lambda x, a, n: -x[0],
    "Relu": _one(lambda z: z.max(ZERO)), "Abs": _one(abs), "Sign": _one(_sign), "Sigmoid": _one(sigmoid), "Tanh": _one(lambda z: z.tanh()),
    "Exp": _one(lambda z: z.exp()), "Log": _one(lambda z: z.log()), "Sqrt": _one(lambda z: z.sqrt()), "Sin": _one(lambda z: z.sin()),
    "Cos": _one(lambda z: z.cos()), "Tan": _one(lambda z: z.tan()), "Asin": _one(lambda z: z.asin()), "Acos": _one(lambda z: z.acos()),
    "Atan": _one(lambda z: z.atan()), "Reciprocal": _one(lambda z: 1 / z), "Softplus": _one(softplus),
    "LeakyRelu": lambda x, a, n: each(lambda z: leaky(z, a.get("alpha", float(np.float32(0.01)))), x[0]), "PRelu": _prelu,
    "HardSigmoid": lambda x, a, n: each(lambda z: (_arb(a["alpha"]) * z + _arb(a["beta"])).max(ZERO).min(ONE), x[0]),
    "HardSwish": lambda x, a, n: each(lambda z: z * (z / 6 + _arb(0.5)).max(ZERO).min(ONE), x[0]),
    "Softmax": _softmax, "Pow": _pow, "Clip": _clip, "MatMul": _matmul, "Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv_transpose,
    "AveragePool": _pool(False), "MaxPool": _pool(True), "BatchNormalization": _batch_normalization,
    "GlobalAveragePool": lambda x, a, n: _reduce(_mean)([x[0]], {"axes": range(2, x[0].ndim)}, n),
    "GlobalMaxPool": lambda x, a, n: _reduce(_extreme(_larger))([x[0]], {"axes": range(2, x[0].ndim)}, n),
    "ReduceSum": _reduce(lambda x, axes: x.sum(axis=axes)), "ReduceMean": _reduce(_mean),
    "ReduceMax": _reduce(_extreme(_larger)), "ReduceMin": _reduce(_extreme(_smaller)),
    "Reshape": lambda x, a, n: x[0].reshape(x[1].tolist()), "Flatten": lambda x, a, n: x[0].reshape(math.prod(x[0].shape[: a.get("axis", 1)]), -1),
    "Squeeze": lambda x, a, n: np.squeeze(x[0], tuple(x[1].tolist())), "Unsqueeze": _unsqueeze,
    "Transpose": lambda x, a, n: x[0].transpose(a["perm"]), "Slice": _slice, "Split": _split, "Concat": lambda x, a, n: np.concatenate(x, axis=a["axis"]),
    "Gather": lambda x, a, n: np.take(x[0], x[1], axis=a.get("axis", 0)), "GatherND": _gather_nd, "Tile": lambda x, a, n: np.tile(x[0], x[1]),
    "Expand": lambda x, a, n: np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, tuple(x[1].tolist()))),
    "Identity": lambda x, a, n: x[0], "Dropout": lambda x, a, n: x[0], "Cast": lambda x, a, n: x[0], "Pad": _pad, "Resize": _resize, "Upsample": _resize,
    "Where": lambda x, a, n: np.where(x[0], x[1], x[2]), "Constant": lambda x, a, n: balls(numpy_helper.to_array(a["value"])),
    "Shape": lambda x, a, n: np.array(x[0].shape), "Size": lambda x, a, n: np.array(x[0].size),
}  # fmt: skip
