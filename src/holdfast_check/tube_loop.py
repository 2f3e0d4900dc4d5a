"""A closed loop of a problem file, ready to be followed: its formulas as graphs, what is known of it piece by piece of time, and its tube.

Sections 2 and 4 of the format of tubes. Scheduled signals, and disturbances of a single trajectory, are constants on each piece of time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from holdfast_check.bounds import enclose
from holdfast_check.flow import jacobian
from holdfast_check.formula import Formulas
from holdfast_check.network import demand
from holdfast_check.problem import Pair, Problem, rational, table
from holdfast_check.problem_file import INSTANCE, document_of, instance_of, merged
from holdfast_check.property import enclosing
from holdfast_check.slicing import sliced
from holdfast_check.tube_claim import Claim, Formula, Piece, instants, judged
from holdfast_check.tube_flow import Graph, Step, advance, through
from holdfast_check.tube_model import (
    UP,
    Array,
    Basis,
    Model,
    exact_box,
    interval,
    kept,
    reduced,
    side_by_side,
    symbolic,
)

Box = Sequence[Pair]
States = Callable[[Fraction, Fraction], Model]  # between two times of a step
Loops = Sequence[tuple[Fraction, "Loop"]]
Change = tuple[Fraction, Mapping[str, Fraction]]  # from this time on, these constants
HALVINGS, FEWER = 7, 3  # of the time of a step, where a part of the claim is not decided; `FEWER`: and need not be
SHORTER = 10  # halvings of steps for which no box is proved
SYMBOLS = 300


@dataclass(frozen=True)
class Question:
    """One instance: its loop, its claim, and when scheduled signals change."""

    problem: Problem
    claim: Claim
    formula: Formula
    atoms: Graph
    parts: list[tuple[Formula, tuple[Fraction, Fraction], bool]]
    changes: list[Change]


def question(text: bytes, name: str, files: Callable[[str], bytes]) -> Question:
    document = document_of(text)
    instances = [table(i, INSTANCE, "an instance") for i in document.get("instance", [])]
    found = [i for i in instances if i.get("id") == name] if instances else [{}] if name == "" else []
    demand(len(found) == 1, f"the file does not have one instance {name!r}")
    whole = merged(document, found[0])
    schedule = whole["plant"].pop("schedule", {})
    whole = {k: v for k, v in whole.items() if k not in ("instance", "property", "expected", "notes") and v is not None}
    properties = found[0].get("property", document.get("property", []))
    problem = instance_of(whole, "", files)
    known = {*problem.states, *problem.inputs, *problem.disturbances, *problem.parameters, *problem.constants}
    demand(not known & schedule.keys(), "a scheduled signal has the name of another one")
    f = Formulas([])
    n = len(problem.states)
    values = f.elements(f.append("input", (), n + len(problem.parameters)))
    horizon, end = whole.get("horizon"), None
    if horizon is not None:
        steps = rational(horizon["steps"]) if "steps" in horizon else None
        end = rational(horizon["time"]) if steps is None else steps * (problem.period or 1)
    claim = Claim(problem, f, values[:n], values[n:], end)
    formula = claim.all_of(properties)
    return Question(
        problem, claim, formula, sliced(f.nodes, f.emit(claim.atoms).place), instants(formula), scheduled(schedule)
    )


def scheduled(schedule: Mapping[str, Any]) -> list[Change]:
    pieces = {name: [(rational(t), rational(v)) for t, v in given] for name, given in schedule.items()}
    for given in pieces.values():
        demand(
            given and given[0][0] == 0 and all(a[0] < b[0] for a, b in pairwise(given)),
            "a schedule does not begin at 0, or is not in order",
        )
    times = sorted({t for given in pieces.values() for t, _ in given} | {Fraction(0)})
    return [(t, {name: [v for s, v in given if s <= t][-1] for name, given in pieces.items()}) for t in times]


class Loop:
    """The graphs of a loop whose scheduled signals are constants."""

    def __init__(self, problem: Problem, constants: Mapping[str, Fraction], tick: Callable[[], None]):
        self.problem, self.tick = replace(problem, constants={**problem.constants, **constants}), tick
        given = {name: (constants[name],) * 2 for name in problem.disturbances if name in constants}
        self.problem.disturbances = {**problem.disturbances, **given}
        self.problem.constants = {k: v for k, v in self.problem.constants.items() if k not in given}
        problem = self.problem
        n, m, free = len(problem.states), len(problem.inputs), len(problem.free)
        self.held = problem.controller is not None and (problem.period is not None or problem.kind == "map")
        f = Formulas([])
        values = f.elements(f.append("input", (), n + free))
        made = problem.controls(f, values[:n], values[n:]) if self.held else {}
        self.control: Graph | None = sliced(f.nodes, f.emit([made[u] for u in problem.inputs]).place) if made else None
        f = Formulas([])
        values = f.elements(f.append("input", (), n + (m if self.held else 0) + free))
        x, u, rest = values[:n], values[n : len(values) - free], values[len(values) - free :]
        rates = (
            problem.plant_rates(f, x, rest, dict(zip(problem.inputs, u, strict=True)))
            if self.held
            else problem.dynamics(f, x, rest)
        )
        self.rates: Graph = sliced(f.nodes, f.emit(rates).place)
        self.width = max(node.size for graph in (self.control, self.rates) if graph for node in graph[0])
        self.disturbed = problem.kind != "map" and any(a < b for a, b in problem.disturbances.values())
        if self.disturbed:
            w = rest[: len(problem.disturbances)]
            rows = jacobian(f, [*x, *w], rates)
            self.slopes: Graph = sliced(f.nodes, f.emit([v for row in rows for v in row]).place)
            ends = [enclosing([pair[side] for pair in problem.disturbances.values()], bool(side)) for side in (0, 1)]
            self.low, self.high = ends
            self.nominal = np.clip(0.5 * ends[0] + 0.5 * ends[1], *ends)

    def inputs(self, x: Model, w: Model | None, p: Model | None) -> Model | None:
        """What the controller sets; the errors of each input are one symbol."""
        if self.control is None:
            return None
        u = through(self.control, side_by_side([v for v in (x, w, p) if v is not None]), symbols=True)
        return symbolic(kept(u, len(x.symbols)), len(x.symbols))

    def disturbances(self, b: Basis, count: int, nominal: bool) -> Model | None:
        given = list(self.problem.disturbances.values())
        if not given:
            return None
        if nominal and self.disturbed:
            here = np.tile(self.nominal, (count, 1))
            return interval(b, here, here)
        return exact_box(b, [given] * count, [None] * len(given))

    def away(self, low: Array, high: Array, ends: tuple[Array, Array], h: Fraction) -> Array:
        """How far disturbances, at any time, move a solution in a box from the one for their nominal values: |x - y|' <= M |x - y| + c."""
        n, k = low.shape[1], len(self.low)
        place = n + (len(self.problem.inputs) if self.held else 0)
        box = [np.concatenate(part, axis=1) for part in zip((low, high), ends, strict=True)]
        box[0][:, place : place + k], box[1][:, place : place + k] = self.low, self.high
        below, above = (v.reshape(len(low), n, n + k) for v in enclose(*self.slopes, (box[0], box[1]), self.tick))
        size = np.maximum(np.abs(below), np.abs(above))
        M, diagonal = size[:, :, :n].copy(), np.arange(n)
        M[:, diagonal, diagonal] = np.maximum(above[:, diagonal, diagonal], 0.0)
        far = np.maximum(self.high - self.nominal, self.nominal - self.low) * UP
        step = float(h) * UP
        term = (size[:, :, n:] * far).sum(axis=2) * (UP * step) + 2.0**-900
        total, rate = term, M.sum(axis=2).max(axis=1) * (UP * step)
        for j in range(1, 50):
            term = (M * term[:, None, :]).sum(axis=2) * (UP * step / (j + 1)) + 2.0**-900
            total = (total + term) * UP
        # each further term is at most half of the one before, in norm
        return np.where((rate <= 25)[:, None], total + 2 * term.max(axis=1, keepdims=True), np.inf)


def loops_of(asked: Question, changes: Sequence[Change], tick: Callable[[], None]) -> Loops:
    return [(t, Loop(asked.problem, constants, tick)) for t, constants in changes]


def loop_at(loops: Loops, t: Fraction) -> Loop:
    return next(loop for begin, loop in reversed(loops) if begin <= t)


@dataclass
class Watch:
    """What is seen of the parts of a claim, for each member of a batch; `lost`: it cannot be proved any more, if that is asked (`proof`)."""

    asked: Question
    parameters: Model | None
    seen: list[list[Piece]]
    lost: Array
    proof: bool

    def look(self, states: States, first: Fraction, last: Fraction) -> None:
        """States between two times; `states` counts from the first."""
        windows = [w for _, w, _ in self.asked.parts]
        marks = sorted({first, last, *(t for w in windows for t in w if first < t < last)})
        everyone = np.arange(len(self.seen))
        for a, b in pairwise(marks):
            self.refined(states, first, a, b, [w[0] <= a and b <= w[1] and w[0] < w[1] for w in windows], everyone, 0)
        for t in marks:
            single = [w[0] <= t <= w[1] and (t == w[0] or first == last) for w in windows]
            self.refined(states, first, t, t, single, everyone, 0)

    def refined(
        self, states: States, start: Fraction, a: Fraction, b: Fraction, wanted: Sequence[bool], members: Array, level: int
    ) -> None:  # fmt: skip
        if not any(wanted) or not len(members):
            return
        x = states(a - start, b - start)[members]
        rest = [] if self.parameters is None else [self.parameters[members]]
        low, high = through(self.asked.atoms, side_by_side([x, *rest])).range()
        strict = np.array(self.asked.claim.strict)
        known = np.where(strict, high < 0, high <= 0)
        possible = ~np.where(strict, low >= 0, low > 0)
        found = [judged(part, known, possible) for part, _, _ in self.asked.parts]
        for k, member in enumerate(members.tolist()):
            self.seen[member].append((a, b, [(bool(y[k]), bool(p[k])) for y, p in found]))
        open_: Array = np.zeros(len(members), bool)
        lost: Array = np.zeros(len(members), bool)
        for want, (_, _, must), (yes, maybe) in zip(wanted, self.asked.parts, found, strict=True):
            more = a < b and level < (HALVINGS if must or not self.proof else FEWER)
            if want:
                open_ |= maybe & ~yes & more
                lost |= ~yes & ~(maybe & more) & (must and self.proof)
        self.lost[members] |= lost
        if open_.any():
            middle = (a + b) / 2
            for half in ((a, middle), (middle, b)):
                self.refined(states, start, *half, wanted, members[open_ & ~self.lost[members]], level + 1)


def follow(
    asked: Question, loops: Loops, boxes: Sequence[Box], b: Basis, steps: Sequence[tuple[Fraction, int]], proof: bool, tick: Callable[[], None]
) -> list[list[Piece]]:  # fmt: skip
    """The tubes from boxes of states and parameters, until the last step or until nothing is known any more; what is seen of the claim on each."""
    problem, n, k = asked.problem, len(asked.problem.states), len(boxes)
    wide = [any(box[i][0] < box[i][1] for box in boxes) for i in range(len(boxes[0]))]
    number = iter(range(b.variables))
    variables = [next(number) if w and b.variables else None for w in wide]
    x = exact_box(b, [box[:n] for box in boxes], variables[:n])
    p = exact_box(b, [box[n:] for box in boxes], variables[n:]) if len(boxes[0]) > n else None
    seen = Watch(asked, p, [[] for _ in boxes], np.zeros(k, bool), proof)
    t, u, period = Fraction(0), None, problem.period
    seen.look(partial(unchanged, x), t, t)
    for end, order in steps:
        while t < end and not seen.lost.all():
            tick()
            loop = loop_at(loops, t)
            if problem.kind == "map":
                x, t = reduced(mapped(loop, x, p), SYMBOLS), t + 1
                seen.look(partial(unchanged, x), t, t)
                continue
            if period is None or (t / period).denominator == 1:
                x = reduced(x, SYMBOLS)
                u = loop.inputs(x, loop.disturbances(b, k, False), p)
            stop = min(
                [end, *(s for s, _ in loops if s > t), *([] if period is None else [(t // period + 1) * period])]
            )
            rest = [v for v in (u, loop.disturbances(b, k, True), p) if v is not None]
            one = stepped(loop, x, side_by_side(rest) if rest else None, stop - t, order)
            if one is None:
                return seen.seen
            seen.look(one.states, t, t + one.length)
            x, t = one.states(one.length, one.length), t + one.length
    return seen.seen


def unchanged(x: Model, first: Fraction, last: Fraction) -> Model:
    return x


def mapped(loop: Loop, x: Model, p: Model | None) -> Model:
    b, k = x.basis, len(x.error)
    w = loop.disturbances(b, k, False)
    u = loop.inputs(x, w, p)
    return through(loop.rates, side_by_side([v for v in (x, u, w, p) if v is not None]), symbols=True)


def stepped(loop: Loop, x: Model, rest: Model | None, h: Fraction, order: int) -> Step | None:
    """A step of this length, or shorter; None if the tube is lost."""
    away = loop.away if loop.disturbed else None
    for _ in range(SHORTER):
        found = advance(loop.rates, x, rest, h, order, away)
        if found.sound.all():
            return found
        h /= 2
    return None
