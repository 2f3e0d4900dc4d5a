"""Branch and bound over initial boxes and unknown constants: a claim is proved on small boxes where it cannot be on large ones.

Boxes are followed in batches, since many cost little more than one. A box that fails is halved along the variable that the
controller's errors came from; before that, polynomials of higher degree are tried on the whole box, which often replaces hundreds of halvings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from holdfast.bounds.enclosure import Problem
from holdfast.loop.tube import ORDER, Front, Segment, System
from holdfast.reachability.claim import Claim
from holdfast.reachability.limits import Course
from holdfast.reachability.monitor import Monitor
from holdfast.search.budget import Budget
from holdfast.search.workers import Workers
from holdfast.spec.region import Box

Array = np.ndarray
HIGHEST = 6  # degree of polynomials
ENTRIES = 1 << 21  # float64 numbers in the largest array of a batch
MOST = 64  # boxes of a batch
FURTHER = 1.15  # a higher degree has to get further by this factor
FEWEST = 8  # boxes worth following together: a box is cut into so many where no others wait
DEEPEST = 60  # halvings


Path = tuple[tuple[int, Fraction, bool], ...]
Steps = tuple[tuple[Fraction, int], ...]  # ends and orders in time


@dataclass(frozen=True, eq=False)
class Cell:
    """A box of initial states and the unknown constants that go with it."""

    states: Box
    parameters: Box
    depth: int = 0
    path: Path = ()  # from the whole box: components that were halved, where, and whether the upper half was taken


@dataclass(frozen=True)
class Ended:
    """What became of a cell: ``kind`` proved, refuted, failed (why: ``text``) or late; how far it got; weights of its variables."""

    kind: str
    time: float
    weights: tuple[float, ...] = ()
    text: str = ""
    steps: Steps = ()


@dataclass(frozen=True)
class Proved:
    """A cell on which the claim is proved, and what a certificate needs to know: the degree of polynomials and the steps."""

    path: Path
    degree: int
    steps: Steps


@dataclass
class Outcome:
    """``proved``: share of the initial box, exact; ``refuted``: a cell all of whose trajectories violate the claim. ``open``: cells left."""

    proved: Fraction = Fraction(0)
    refuted: Cell | None = None
    open: list[Cell] = field(default_factory=list)
    followed: int = 0
    degree: int = 0
    worst: Ended | None = None
    late: bool = False
    leaves: list[Proved] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether the claim is proved on the whole box."""
        return self.proved == 1 and self.refuted is None and not self.open


def explore(
    system: System, claim: Claim, cells: Sequence[Cell], horizon: Fraction, expired: Callable[[], bool]
) -> list[Ended]:
    """Follow cells together until each is decided."""
    front = system.start([c.states for c in cells], horizon, [c.parameters for c in cells])
    monitor = Monitor.of(claim, system, len(cells))
    ended: list[Ended | None] = [None] * len(cells)
    course = Course(front, horizon)
    going = True

    def go_on(front: Front) -> bool:
        nonlocal going
        going = not expired() and not course.blown(front).all()
        return going

    steps: list[tuple[Fraction, int]] = []
    while len(front.origin):
        before = front
        front, segments = system.advance(front, horizon, go_on)
        monitor = monitor.observe(segments)
        steps += steps_of(segments, system, front.time)
        lost = set(before.origin.tolist()) - set(front.origin.tolist())
        over = front.time >= horizon
        if len(front.origin):
            course.update(front)
            if over:
                monitor = monitor.finish(front, system)
            else:
                lost |= set(front.origin[course.blown(front)].tolist())
        late = not over and (expired() or not going)
        status = monitor.status()
        for k in np.unique(before.origin).tolist():
            if status.proved[k] or status.refuted[k]:
                ended[k] = Ended("proved" if status.proved[k] else "refuted", float(front.time), steps=tuple(steps))
            elif status.failed[k] or k in lost or over:
                text = "the enclosure becomes too wide" if k in lost else status.reason(k)
                ended[k] = Ended("failed", float(before.time), _weights(front, before, k), text)
            elif late:
                ended[k] = Ended("late", float(front.time))
        front = front[np.array([ended[k] is None for k in front.origin.tolist()], bool)]
    return [e if e is not None else Ended("late", 0.0) for e in ended]


def steps_of(segments: Sequence[Segment], system: System, time: Fraction) -> list[tuple[Fraction, int]]:
    """Ends and orders of steps, as certificates name them; maps: the ``time`` reached."""
    if system.kind == "map":
        return [(time, 1)]
    return sorted({(s.end, len(getattr(s.step, "series", ())) or ORDER) for s in segments})


def _weights(front: Front, before: Front, origin: int) -> tuple[float, ...]:
    """What each variable had to do with the failure: errors of the controller so far, and a little how wide it makes the states."""
    at = front if (front.origin == origin).any() else before
    k = np.flatnonzero(at.origin == origin)
    blame = np.nan_to_num(at.blame[k].sum(0))
    V = at.states.basis.variables
    with np.errstate(all="ignore"):
        linear = abs(at.states.terms[1 : 1 + V][:, k]).sum(1)  # (V, n)
        spread = np.nan_to_num((linear / np.maximum(linear.sum(0), 1e-300)).mean(1))
    total = blame / max(float(blame.sum()), 1e-300) + 0.05 * spread + 1e-6
    return tuple(float(w) for w in total / total.sum())


def prove(
    make: Callable[[int | None], System], claim: Claim, cell: Cell, horizon: Fraction, budget: Budget, workers: int,
    pause: Callable[[], bool] = lambda: False, tell: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:  # fmt: skip
    """Prove the claim for all initial states and constants of a cell. ``make``: the system with polynomials of a degree (None: chosen).

    ``pause``: called when the whole cell could not be proved, and then now and then; True ends the search.
    """
    system = make(None)
    (first,) = explore(system, claim, [cell], horizon, budget.expired)
    if first.kind == "failed":
        if pause():
            return Outcome(open=[cell], followed=1, degree=system.degree, worst=first)
        system, first = _degree(make, system, first, claim, cell, horizon, budget)
    outcome = Outcome(followed=1, degree=system.degree)
    if first.kind != "failed":
        outcome.proved = Fraction(int(first.kind == "proved"))
        outcome.leaves = [Proved(cell.path, system.degree, first.steps)]
        outcome.refuted = cell if first.kind == "refuted" else None
        outcome.late = first.kind == "late"
        return outcome
    outcome.worst = first
    stack = _parts(system, cell, first, FEWEST)
    if not stack:
        outcome.open.append(cell)
    batch = max(1, min(MOST, ENTRIES // _entries(system)))
    team: Workers | None = None

    def follow(cells: list[Cell]) -> list[Ended]:
        return explore(system, claim, cells, horizon, budget.expired)

    try:
        while stack and not budget.expired():
            if team is None and workers > 1 and len(stack) > batch:
                team = Workers(follow, workers)
            lanes = 1 if team is None else team.count
            share = min(batch, -(-len(stack) // lanes))
            tasks = [stack[max(0, len(stack) - share * (i + 1)) : len(stack) - share * i] for i in range(lanes)]
            tasks = [t for t in tasks if t]
            del stack[len(stack) - sum(map(len, tasks)) :]
            results = [follow(t) for t in tasks] if team is None else team.map(tasks)
            for task, ended in zip(tasks, results, strict=True):
                outcome.followed += len(task)
                for one, end in zip(task, ended, strict=True):
                    if end.kind == "proved":
                        outcome.proved += Fraction(1, 2**one.depth)
                        outcome.leaves.append(Proved(one.path, system.degree, end.steps))
                    elif end.kind == "refuted":
                        outcome.refuted = one
                        outcome.open = stack
                        return outcome
                    elif end.kind == "late" or one.depth >= DEEPEST:
                        outcome.open.append(one)
                        outcome.worst = end if end.kind == "failed" else outcome.worst
                    else:
                        outcome.worst = end
                        parts = _parts(system, one, end, 2 if len(stack) >= FEWEST else 4)
                        stack += parts
                        if not parts:
                            outcome.open.append(one)
            tell(outcome)
            if pause():
                break
    finally:
        if team is not None:
            team.close()
    outcome.open += stack
    outcome.late = bool(outcome.open) and budget.expired()
    return outcome


def _degree(
    make: Callable[[int | None], System], system: System, end: Ended, claim: Claim, cell: Cell, horizon: Fraction, budget: Budget
) -> tuple[System, Ended]:  # fmt: skip
    """The degree of polynomials that gets the whole cell furthest, and what became of it then."""
    best = system, end
    for degree in range(system.degree + 1, HIGHEST + 1) if system.basis.variables else ():
        if best[1].kind != "failed" or budget.left < 2 * budget.seconds:
            break
        higher = make(degree)
        (other,) = explore(higher, claim, [cell], horizon, budget.expired)
        if other.kind == "failed" and other.time <= FURTHER * best[1].time:
            break
        if other.kind != "late":
            best = higher, other
    return best


def _entries(system: System) -> int:
    """Numbers of the largest array that one box needs, about."""
    problems = [p for p in (system.control, system.dynamics) if isinstance(p, Problem)]
    widths = [int(np.prod(node.shape)) for p in problems for node in p.graph.nodes]
    widest = max(widths, default=1)
    return (len(system.basis) + system.symbols + widest) * widest + len(system.basis.left) * min(widest, 64)


def _parts(system: System, cell: Cell, end: Ended, count: int) -> list[Cell]:
    """The cell in ``count`` (a power of two) parts: halved along the variable with the largest weight, which then has half of it.

    Empty where no variable can be halved any more.
    """
    own = [i for i, v in enumerate(system.variables) if v is not None]
    weights = np.array(end.weights) if end.weights else np.ones(len(own))
    cells = [cell]
    while len(cells) < count:
        for v in np.argsort(-weights, kind="stable"):
            pairs = [_cut(c, own[v]) for c in cells]
            if all(pairs):
                break
        else:
            return []
        cells = [half for pair in pairs for half in pair]
        weights[v] *= 0.5
    return cells


def _cut(cell: Cell, component: int) -> tuple[Cell, ...]:
    """Both halves of a cell along a component (states, then constants); none where there is no float64 number between its ends."""
    n = len(cell.states)
    whole, place = (cell.states, component) if component < n else (cell.parameters, component - n)
    halves = _halved(whole, place)
    if halves is None:
        return ()
    at, found = halves[0].exact_upper(place), []
    for half, upper in zip(halves, (False, True), strict=True):
        states, parameters = (half, cell.parameters) if component < n else (cell.states, half)
        found.append(Cell(states, parameters, cell.depth + 1, (*cell.path, (component, at, upper))))
    return tuple(found)


def _halved(box: Box, i: int) -> tuple[Box, Box] | None:
    """Both halves along one side, which meet; None where there is no float64 number between the ends."""
    middle = 0.5 * box.lower[i] + 0.5 * box.upper[i]
    if not box.lower[i] < middle < box.upper[i]:
        return None
    lower, upper = [box.exact_lower(k) for k in range(len(box))], [box.exact_upper(k) for k in range(len(box))]
    at = Fraction(float(middle))
    return Box.of(lower, [*upper[:i], at, *upper[i + 1 :]]), Box.of([*lower[:i], at, *lower[i + 1 :]], upper)
