"""Exact values of the networks: over the reals by fractions, and of float32 executions in a chosen order.

numpy rounds every float32 operation as IEEE 754 says; a fused multiply-add is rounded here from the exact fraction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import permutations, product

import numpy as np
from networks import Layer


def real(layers: Sequence[Layer], point: Sequence[Fraction]) -> list[Fraction]:
    """The outputs over the reals, without any rounding."""
    values = list(point)
    for weights, bias, relu in layers:
        sums = [
            sum((Fraction(float(w)) * v for w, v in zip(row, values, strict=True) if w), Fraction(float(b)))
            for row, b in zip(weights, bias, strict=True)
        ]
        values = [max(s, Fraction(0)) for s in sums] if relu else sums
    return values


def nearest(value: Fraction) -> np.float32:
    """The float32 number nearest to a fraction (ties to even): float64 first, then a look at its neighbours."""
    middle = np.float32(float(value))
    around = [np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - value), int(f.view(np.int32)) & 1))


def affine(
    weights: np.ndarray, bias: np.float32, values: Sequence[np.float32], order: Sequence[int], fuse: bool
) -> np.float32:
    """weights . values + bias in float32, the terms in ``order``; position len(weights) stands for the bias."""
    terms = [(np.float32(w), v) for w, v in zip(weights, values, strict=True)] + [(np.float32(1), bias)]
    total = np.float32(0)
    for i in order:
        w, v = terms[i]
        total = nearest(Fraction(float(w)) * Fraction(float(v)) + Fraction(float(total))) if fuse else total + w * v
    return total


def executions(layers: Sequence[Layer], point: Sequence[Fraction]) -> Iterator[tuple[bool, np.float32]]:
    """(fused or not, output) of a network with one output, for all orders of all its sums, with and without fusing."""
    start = [np.float32(float(v)) for v in point]
    for fuse in (False, True):
        reached = {tuple(start)}
        for weights, bias, relu in layers:
            sums = {
                values: [
                    {float(affine(row, b, values, order, fuse)) for order in permutations(range(len(row) + 1))}
                    for row, b in zip(weights, bias, strict=True)
                ]
                for values in reached
            }
            reached = {
                tuple(np.float32(max(v, 0.0) if relu else v) for v in values)
                for found in sums.values()
                for values in product(*found)
            }
        yield from ((fuse, values[0]) for values in sorted(reached))
