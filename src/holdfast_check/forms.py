"""Affine forms of all values on boxes, front to back: what is cheap to know where few inputs vary (loops: states and disturbances).

With x = m + rho e the inputs of a box, |e_d| <= 1, the value of a node is F e + f + d for some |d| <= r, whatever x is (Comba and
Stolfi, Affine arithmetic and its applications to computer graphics, 1993). A function is a line s z + c, off by at most half the
distance of parallel lines below and above it. All rounding goes into r: whatever is computed is F, and |e| <= 1 makes its
error at most a multiple of |F| 1 + |f| + r.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from holdfast_check.arithmetic import TINY, gamma, size
from holdfast_check.bounds import Graph, Ranges, lines
from holdfast_check.linear import Linear
from holdfast_check.network import Node

FEW = 12  # inputs that vary
Form = tuple[np.ndarray, np.ndarray]  # (B, k + 1, n): k coefficients of e, then f; r (B, n)


@dataclass
class Forms:
    """To be given to `forward` in place of `narrow`: pre-activations become no wider than their forms."""

    found: list[Form] = field(default_factory=list)
    varying: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    middle: np.ndarray = field(default_factory=lambda: np.zeros(0))  # m and rho, (B, k)
    radius: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __call__(self, graph: Graph, ranges: Ranges, i: int) -> None:
        self.reach(graph, ranges, i)
        for j in graph.loose.intersection(graph.nodes[i].inputs):
            (form, _), total = self.found[j], self.total(j)
            reach = total - np.abs(form[:, -1]) + gamma(form.shape[1] + 4) * total + TINY
            np.fmax(ranges.lower[j], form[:, -1] - reach, out=ranges.lower[j])  # what is no number is ignored
            np.fmin(ranges.upper[j], form[:, -1] + reach, out=ranges.upper[j])

    def reach(self, graph: Graph, ranges: Ranges, stop: int) -> None:
        """Forms of the nodes before `stop`, whose ranges are known."""
        if not self.found:
            low, high = ranges.box
            self.varying = np.flatnonzero((low < high).any(axis=0))
            self.middle = np.where(low < high, 0.5 * low + 0.5 * high, low)
            self.radius = np.where(
                low < high, np.nextafter(np.maximum(high - self.middle, self.middle - low), np.inf), 0.0
            )
        for i in range(len(self.found), stop):
            node = graph.nodes[i]
            if node.kind == "input":
                self.found.append(self.input(node))
            else:
                self.found.append(self.linear(node, node.linear) if node.linear else self.bent(node, ranges, i))

    def total(self, j: int) -> np.ndarray:
        """|F| 1 + |f| + r."""
        return np.abs(self.found[j][0]).sum(axis=1) + self.found[j][1]

    def input(self, node: Node) -> Form:
        form = np.zeros((len(self.middle), len(self.varying) + 1, node.size))
        form[:, -1] = self.middle[:, node.start : node.start + node.size]
        for k, d in enumerate(self.varying - node.start):
            if 0 <= d < node.size:
                form[:, k, d] = self.radius[:, node.start + d]
        return form, np.zeros(form[:, -1].shape)

    def linear(self, node: Node, linear: Linear) -> Form:
        forms = [self.found[j][0] for j in node.inputs]
        batch, count = forms[0].shape[:2]
        form = linear.apply([f.reshape(batch * count, -1) for f in forms]).reshape(batch, count, -1)
        spread = linear.magnitude([self.found[j][1] for j in node.inputs])
        if linear.bias is not None:
            form[:, -1] += linear.bias
        if not (linear.exact and linear.doubt is None and linear.bias is None):  # not only moved or negated
            totals = [self.total(j) for j in node.inputs]
            total = linear.magnitude(totals) + (0.0 if linear.bias is None else np.abs(linear.bias))
            spread = spread + gamma(linear.terms + count + 8) * total + TINY
            if linear.doubt is not None:
                spread += 2 * linear.doubt.magnitude(totals) + (
                    0.0 if linear.doubt.bias is None else 2 * linear.doubt.bias
                )
        return form, spread

    def bent(self, node: Node, ranges: Ranges, i: int) -> Form:
        """Between two lines a z + low <= f(z) <= b z + high; s is half way between their slopes, and (a - s) z least at an end."""
        ends, low, high = list(zip(*ranges.of(node), strict=True)), ranges.lower[i], ranges.upper[i]
        (below, least), (above, most) = lines(node, ranges, i, None, low)
        slopes, total = [0.5 * a + 0.5 * b for a, b in zip(below, above, strict=True)], np.zeros(low.shape)
        for a, b, s, z in zip(below, above, slopes, ends, strict=True):
            least = least + np.minimum((a - s) * z[0], (a - s) * z[1])
            most = most + np.maximum((b - s) * z[0], (b - s) * z[1])
            total = total + (np.abs(a) + np.abs(b)) * size(*z)
        level = ~(most - least < high - low)  # also: it is not known
        least, most, total = np.where(level, low, least), np.where(level, high, most), np.where(level, 0.0, total)
        centre = np.where(np.isfinite(least + most), 0.5 * least + 0.5 * most, 0.0)
        spread = np.nextafter(np.maximum(most - centre, centre - least), np.inf)
        total, form = total + np.abs(centre) + spread, np.zeros((*self.found[0][0].shape[:2], node.size))
        form[:, -1] = centre
        for s, j in zip(slopes, node.inputs, strict=True):
            flat, s = level | (s == 0), np.where(level, 0.0, s)
            form = form + s[:, None] * self.found[j][0]
            spread = spread + np.where(flat, 0.0, np.abs(s) * self.found[j][1])
            total = total + np.where(flat, 0.0, np.abs(s) * self.total(j))
        return form, spread + gamma(form.shape[1] + 16) * total + TINY
