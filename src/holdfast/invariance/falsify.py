"""Search for an escape: points of the boundary where the loop leaves a set that it is claimed never to leave.

Ascent of the flow across each side of the set (maps: of the side's value in the next step), over states, disturbances and
parameters, in plain arithmetic and all points at once; then simulation from the boundary. What is found is proved by
`holdfast.invariance.escape`. Frank, Wolfe, An algorithm for quadratic programming, 1956; Madry et al., ICLR 2018.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from holdfast.invariance.escape import Prover, affine
from holdfast.invariance.faces import Faces
from holdfast.invariance.field import Field
from holdfast.invariance.prove import quiet
from holdfast.invariance.sets import Inequalities
from holdfast.loop import ClosedLoop
from holdfast.verdict import Escape

POINTS = 768  # followed at a time ...
FEWEST = 128
WORK = 1.5e7  # ... fewer, where that is more than so many multiplications per evaluation
DEPTHS = (1e-9, 1e-12, 1e-15, 0.0, 1e-7, 1e-5)  # of the set's width: how far inside an escape starts
ATTEMPTS = 6  # proofs tried per round


def search(
    loop: ClosedLoop, states: Inequalities, property_number: int, *, seed: int, seconds: float, starts: Sequence[np.ndarray] = (),
    rounds: int | None = None,
) -> Escape | None:  # fmt: skip
    """An escape from the set, proved; None if none was found in about so many seconds.

    ``starts``: points (variables of the loop) near which to look first. ``rounds``: at most so many passes over the boundary,
    even if there is time left.
    """
    deadline = time.monotonic() + seconds
    with quiet():
        hunt = _Hunt(loop, states, property_number, np.random.default_rng(seed), deadline)
        for x, others, side in hunt.rounds(starts, rounds):
            found = hunt.proved(x, others, side)
            if found is not None or hunt.over():
                return found
    return None


Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # states (P, n), disturbances and parameters (P, m), sides (P,)


class _Hunt:
    def __init__(self, loop: ClosedLoop, states: Inequalities, number: int, rng: np.random.Generator, deadline: float):
        self.rng, self.deadline = rng, deadline
        self.field = Field(loop, states)
        self.prover = Prover(loop, states, number)
        self.ode = loop.kind == "ode"
        self.points = int(np.clip(WORK / max(self.field.size, 1), FEWEST, POINTS))
        self.faces: Faces | None = None
        forms = affine(states.functions)
        if not states.domain and forms is not None:
            weights, _, shift, _ = forms
            rows = self.field.rows
            self.faces = Faces(rows @ weights.T, -(rows @ shift + self.field.constants))

    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline

    def rounds(self, starts: Sequence[np.ndarray], most: int | None) -> Iterator[Points]:
        """Ever more candidates."""
        if len(starts):
            yield self._from(np.array([np.asarray(s, np.float64) for s in starts]))
        done = 0
        while done == 0 or (not self.over() and (most is None or done < most)):
            if self.faces is not None and self.faces.center is not None:
                yield from self._on_faces(done == 0)
            else:
                yield from self._on_boundary()
            if done and not self.over():
                yield self._simulated()
            done += 1

    def proved(self, x: np.ndarray, others: np.ndarray, side: np.ndarray) -> Escape | None:
        """The first of the best candidates whose escape can be proved; each side is tried before another point of the same."""
        rate = self.field.rate(x, others, side)
        # a rate counts relative to how fast the side changes across the set
        score = np.where(np.isfinite(rate) & (rate > 0), rate / self.field.spread[side], -np.inf)
        order = np.argsort(-score, kind="stable")
        order = order[np.isfinite(score[order])]
        leaders = [k for i, k in enumerate(order) if side[k] not in side[order[:i]]] if len(order) < 5000 else []
        chosen = [*leaders[:ATTEMPTS], *order[: ATTEMPTS // 2]]
        for tries, k in enumerate(dict.fromkeys(int(k) for k in chosen)):
            if tries and self.over():
                return None
            for depth in DEPTHS:
                start = self._placed(x[k], int(side[k]), depth)
                if start is None or self.prover.inside(start) is None:
                    continue
                w = self.field.loop.disturbances
                found = self.prover.prove(start, others[k, : len(w)], others[k, len(w) :], int(side[k]))
                if found is not None:
                    return found
        return None

    def _placed(self, x: np.ndarray, side: int, depth: float) -> np.ndarray | None:
        """A state a little inside of the boundary."""
        if self.faces is not None and self.faces.center is not None:
            return x + depth * (self.faces.center - x)
        f = self.field
        point = f.clipped(x[None])
        for _ in range(4):
            values = f.sides(point)[0]
            worst = [j for j in range(f.own) if values[j] > -depth * f.spread[j] * 0.5]
            if not worst or depth == 0:
                break
            for j in worst:
                slope = f.slope(point, np.array([j]))[0]
                move = f.width**2 * slope
                size = float(slope @ move)
                if not size > 0:
                    return None
                point = f.clipped(point - (values[j] + depth * f.spread[j]) / size * move)
        if side >= f.own:
            point = f.held(point, np.array([side]))
        return point[0]

    def _from(self, v: np.ndarray) -> Points:
        """Candidates next to given points: moved to the nearest sides, then followed uphill."""
        f = self.field
        x, others = f.clipped(v[:, : f.n]), v[:, f.n :]
        values = f.sides(x) / f.spread
        near = np.argsort(-values, axis=1)[:, : min(3, values.shape[1])]
        x, others = np.repeat(x, near.shape[1], 0), np.repeat(others, near.shape[1], 0)
        return self._climbed(x, others, near.reshape(-1), 10)

    # ---- polytopes: from vertex to vertex ----

    def _on_faces(self, first: bool) -> Iterator[Points]:
        f, faces = self.field, self.faces
        assert faces is not None and faces.center is not None
        count = len(f.spread)
        copies = max(1, self.points // count) if faces.quick else 1
        side = np.repeat(np.arange(count), copies)
        here = side if self.ode else np.full_like(side, -1)
        center = faces.center
        x = np.repeat(center[None], len(side), 0)
        if self.ode:
            gap = (faces.b - faces.A @ center)[side, None]
            x = x + gap * faces.A[side] / (faces.A[side] ** 2).sum(1, keepdims=True)
        others = f.others(self.rng, len(side))
        if faces.quick or not first:
            mixed = [faces.best(self.rng.normal(size=(len(side), f.n)), here) for _ in range(2)]
            share = self.rng.random((len(side), 1))
            x = mixed[0] + share * (mixed[1] - mixed[0])
        feasible = np.zeros(len(side), bool) if not faces.quick and first else np.ones(len(side), bool)
        for turn in range(8):
            if self.over() and turn > 1:
                return
            slope = f.slope_of_rate(x, others, side)
            vertex = faces.best(slope[:, : f.n], here)
            corner = f.corner(slope[:, f.n :], others)
            value = np.where(feasible, f.rate(x, others, side), -np.inf)
            before = value.copy()
            start, start_others = x, others
            for part in (1.0, 0.3, 0.1):
                for w in (corner, start_others):
                    if part < 1 and not feasible.all():
                        continue
                    moved = start + part * (vertex - start)
                    new = f.rate(moved, w, side)
                    better = new > value
                    value = np.where(better, new, value)
                    x, others = np.where(better[:, None], moved, x), np.where(better[:, None], w, others)
            feasible = np.isfinite(value)
            if turn in (0, 3, 7) and (value > 0).any():
                yield x, others, side
            gained = value > before + 1e-12 * abs(before)
            if not gained.any():
                break
            if not faces.quick:  # linear programs take their time: the most promising sides only
                order = np.argsort(-(value / f.spread[side]))[: max(12, len(side) // 3)]
                x, others, side, here, feasible = x[order], others[order], side[order], here[order], feasible[order]
        yield x, others, side

    # ---- anything else: along the boundary ----

    def _on_boundary(self) -> Iterator[Points]:
        f = self.field
        x = f.boundary(self.rng, self.points)
        if not len(x):
            return
        others = f.others(self.rng, len(x))
        values = f.sides(x) / f.spread
        side = values.argmax(1)
        if not self.ode:  # any side may be the one that is left
            every = f.rates(x, others) / f.spread
            side = np.where(
                self.rng.random(len(x)) < 0.5, every.argmax(1), self.rng.integers(0, values.shape[1], len(x))
            )
        elif f.own < len(f.spread):
            more, at = f.on_domain(self.rng, self.points // 2)
            x, side = np.concatenate([x, more]), np.concatenate([side, at])
            others = np.concatenate([others, f.others(self.rng, len(more))])
        for steps in (0, 6, 12, 24, 36):
            x, others, side = self._climbed(x, others, side, steps)
            if not len(x):
                return
            yield x, others, side
            if self.over():
                return
            rate = f.rate(x, others, side) / f.spread[side]
            keep = np.argsort(-rate, kind="stable")[: max(64, len(x) // 2)]
            x, others, side = x[keep], others[keep], side[keep]

    def _climbed(self, x: np.ndarray, others: np.ndarray, side: np.ndarray, steps: int) -> Points:
        """Ascent of the rate; the sides stay what they are."""
        f = self.field
        x = f.repaired(x, side, self.ode)
        value = np.where(f.feasible(x, side, self.ode), f.rate(x, others, side), -np.inf)
        size = np.full(len(x), 0.1)
        for _ in range(steps):
            if self.over():
                break
            slope = f.slope_of_rate(x, others, side)
            move = slope[:, : f.n] * f.width**2
            a = f.slope(x, side)
            if self.ode:
                normal = a * f.width**2
                move = (
                    move
                    - (move * a).sum(1, keepdims=True) / np.maximum((normal * a).sum(1, keepdims=True), 1e-300) * normal
                )
            move = move / np.maximum(abs(move / f.width).max(1, keepdims=True), 1e-300)
            new_others = f.corner(slope[:, f.n :], others)
            moved = f.repaired(f.clipped(x + size[:, None] * move), side, self.ode)
            fine = f.feasible(moved, side, self.ode)
            new = np.where(fine, f.rate(moved, new_others, side), -np.inf)
            better = new > value
            x, others = np.where(better[:, None], moved, x), np.where(better[:, None], new_others, others)
            size = np.where(better, np.minimum(1.3 * size, 0.3), 0.5 * size)
            value = np.where(better, new, value)
            if others.shape[1]:  # disturbances alone
                new = f.rate(x, new_others, side)
                better = (new > value) & np.isfinite(value)
                others, value = np.where(better[:, None], new_others, others), np.where(better, new, value)
        kept = np.isfinite(value)
        return x[kept], others[kept], side[kept]

    # ---- trajectories ----

    def _simulated(self) -> Points:
        """States of trajectories just before they leave the set."""
        f = self.field
        if self.faces is not None and self.faces.center is not None:
            x = self._vertices(self.points // 3 if self.faces.quick else 40)
            x = x - 1e-3 * (x - self.faces.center)
        else:
            x = f.boundary(self.rng, self.points // 3)
        others = f.others(self.rng, len(x))
        found: list[Points] = []
        for turn in range(150):
            if not len(x) or self.over():
                break
            after = f.step(x, others)
            values = f.sides(after) / f.spread
            left = (values > 0).any(1) & np.isfinite(values).all(1)
            if left.any():
                side = values.argmax(1)
                last = f.last_inside(x[left], after[left]) if self.ode else x[left]
                found.append((last, others[left], side[left]))
                if sum(len(a) for a, _, _ in found) > 64:
                    break
            stays = ~left & np.isfinite(values).all(1)
            x, others = after[stays], others[stays]
            if turn % 8 == 7:
                others = f.others(self.rng, len(x))
        if not found:
            return np.zeros((0, f.n)), np.zeros((0, len(f.low_others))), np.zeros(0, int)
        x, others, side = (np.concatenate(part) for part in zip(*found, strict=True))
        return self._climbed(x, others, side, 4)

    def _vertices(self, count: int) -> np.ndarray:
        assert self.faces is not None
        return self.faces.best(self.rng.normal(size=(count, self.field.n)), np.full(count, -1))
