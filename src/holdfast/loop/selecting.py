"""Controllers that pick a row: which rows can be picked over a Taylor model of the states, and on which part of it each.

Differences of the network's outputs are bounded with all correlation kept; what they say is turned into sub-boxes of the variables (as a
guard is intersected with a reachable set: Althoff, Krogh, Avoiding geometric intersection operations in reachability analysis of
hybrid systems, HSCC 2012), and boxes on which several rows remain are halved where that separates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.bounds.taylor import propagate_models
from holdfast.errors import UnsupportedError
from holdfast.graph import Model, Tensor
from holdfast.loop.merging import merged, shares
from holdfast.operators import GraphBuilder
from holdfast.rigor import FLOAT64, gamma
from holdfast.sets.taylor_model import TaylorModel, add, concatenated, joined, restricted, scaled, stacked
from holdfast.spec.plant import Case, LoopData
from holdfast.transforms import embed
from holdfast.transforms.compose import finish

if TYPE_CHECKING:
    from holdfast.loop.tube import Front

Array = np.ndarray
LIMIT = 64  # members of one initial box (and one row picked before) at the start of a period
HALVED = 4  # times as many pieces at the most
SMALLEST = 1 / 8  # of all states of an initial box at that time: pieces are not halved below
WORTH = 0.1  # of a piece: what several rows share of it, below which it is not halved
LINEAR = 0.1  # of the range of a constraint: the part of one variable, below which halving that one separates nothing
CONTRACTIONS = 3  # rounds in which constraints narrow one another's boxes
_SLACK = 1e-12  # far more than the rounding of the few operations of one contraction


@dataclass(frozen=True, eq=False)
class Picked:
    """What goes on, C members: ``member`` (C,) of the batch it came from, ``piece`` (lower, upper, each (C, V)): a part of its variables,
    ``part`` of that piece's: where ``row`` (C,) is picked, with the plant's ``inputs`` (C, m). ``blame`` (C, V): what each variable had to do
    with doubts."""

    member: Array
    piece: tuple[Array, Array]
    part: tuple[Array, Array]
    row: Array
    inputs: TaylorModel
    blame: Array


@dataclass(frozen=True, eq=False)
class _Choice:
    """One case of a row, prepared; ``before``: the cases that go before it."""

    row: int
    case: Case
    inputs: Problem
    where: Problem | None
    before: tuple[tuple[Case, Problem | None], ...]


class Selector:
    """The controller of a loop, prepared."""

    def __init__(self, data: LoopData, variables: tuple[int | None, ...]):
        controller = data.controller
        assert controller is not None and controller.select is not None
        if controller.feedback == "continuous":
            raise UnsupportedError(
                "[controller] select: with continuous feedback the right side jumps; accepted are sampled feedback and maps"
            )
        self.variables = variables
        self.first = controller.first or 0
        self.sign = 1.0 if controller.select == "argmax" else -1.0
        self.networks = [flat_problem(_outputs(data, network), FLOAT64) for network in controller.networks]
        self.choices: list[_Choice] = []
        for row, cases in enumerate(controller.rows):
            before: list[tuple[Case, Problem | None]] = []
            for case in cases:
                where = None if case.where is None else flat_problem(case.where, FLOAT64)
                self.choices.append(_Choice(row, case, flat_problem(case.inputs, FLOAT64), where, tuple(before)))
                before.append((case, where))
        self.memory = len(self.networks) > 1 or any(c.case.after is not None for c in self.choices)

    def start(self, front: Front) -> Front:
        """Before anything was picked."""
        return replace(front, row=np.full(len(front.origin), self.first))

    def merged(self, front: Front) -> Front:
        """No more members than is sensible."""
        key = np.stack([front.origin, front.row if self.memory and front.row is not None else 0 * front.origin], axis=1)
        return merged(front, key, LIMIT, SMALLEST, self.variables)

    def pick(self, front: Front, fed: TaylorModel) -> tuple[Front, TaylorModel]:
        """One member for each row that can be picked, on the part of its variables where it can be; the plant's inputs.

        ``fed``: the signals (B, N).
        """
        assert front.row is not None
        most = HALVED * LIMIT * len(np.unique(front.origin))
        found = self.picked(fed, front.row, front.states.symbols, _width(front.states, front.origin), most)
        member, p = found.member, front.parameters

        def on_part(model: TaylorModel) -> TaylorModel:
            # step by step as the inputs were, so that the variables are the same to the last bit
            return restricted(restricted(model[member], *found.piece), *found.part)

        after = replace(
            front[member], states=on_part(front.states), parameters=None if p is None else on_part(p),
            blame=front.blame[member] + found.blame, row=found.row,
        )  # fmt: skip
        return after, found.inputs

    def picked(self, fed: TaylorModel, row: Array, symbols: int, width: Array, most: int) -> Picked:
        """All that can be picked from the signals ``fed`` (B, N) after the rows ``row`` (B,).

        ``symbols``: how many the states have; ``width`` (B, V): what each variable makes of all that it is compared with;
        ``most``: pieces, beyond which none is halved.
        """
        B, V = len(row), fed.basis.variables
        member, low, high = np.arange(B), -np.ones((B, V)), np.ones((B, V))
        done: list[Picked] = []
        while len(member):
            part = restricted(fed[member], low, high)
            doubts = [self._doubts(part, row[member], network) for network in self._groups(row[member])]
            split = np.zeros(len(member), bool)
            variable = np.zeros(len(member), np.int64)
            for at, doubt in doubts:
                found, along = doubt.worth_halving(0.5 * (high - low)[at] * width[member[at]])
                found &= len(member) + sum(len(p.member) for p in done) < most
                split[at], variable[at] = found, along
                for k, choice in enumerate(self.choices):
                    chosen = np.flatnonzero(doubt.possible[:, k] & ~found)
                    if len(chosen):
                        value = propagate_models(choice.inputs, concatenated([part[at], doubt.outputs])[chosen], True)
                        own, box = at[chosen], (doubt.low[chosen, k], doubt.high[chosen, k])
                        value = joined(restricted(value, *box), symbols)
                        done.append(
                            Picked(
                                member[own], (low[own], high[own]), box, np.full(len(chosen), choice.row),
                                value, doubt.blame[chosen],
                            )
                        )  # fmt: skip
            member, low, high = _halved(member[split], low[split], high[split], variable[split])
        return _together(done)

    def _groups(self, row: Array) -> list[tuple[Array, Problem]]:
        """Which members each network reads."""
        if len(self.networks) == 1:
            return [(np.arange(len(row)), self.networks[0])]
        return [(np.flatnonzero(row == r), self.networks[r]) for r in np.unique(row)]

    def _doubts(self, fed: TaylorModel, row: Array, group: tuple[Array, Problem]) -> tuple[Array, _Doubt]:
        at, network = group
        fed, row = fed[at], row[at]
        y = propagate_models(network, fed, symbolic=True)
        count, outputs, V = len(at), y.shape[0], fed.basis.variables
        guards = []
        for r in range(outputs):
            others = [j for j in range(outputs) if j != r]
            own = y.component(np.full(len(others), r))
            away = y.component(np.array(others, np.int64))
            guards.append(add(away, own, -1.0) if self.sign > 0 else add(own, away, -1.0))
        possible = np.zeros((count, len(self.choices)), bool)
        low, high = np.tile(-np.ones(V), (2, count, len(self.choices), 1))
        high = -high
        slopes = np.zeros((count, V))
        for k, choice in enumerate(self.choices):
            needed = [guards[choice.row]]
            fits = np.ones(count, bool) if choice.case.after is None else row == choice.case.after
            if choice.where is not None:
                needed.append(propagate_models(choice.where, fed, symbolic=True))
            for case, where in choice.before:
                before = np.ones(count, bool) if case.after is None else row == case.after
                if where is None:
                    fits &= ~before
                    continue
                values = propagate_models(where, fed, symbolic=True)
                upper = values.range()[1]
                holds = np.where(np.array(case.strict), upper < 0, upper <= 0).all(1)
                fits &= ~(before & holds)
                if len(case.strict) == 1:  # the one condition does not hold there
                    needed.append(scaled(values, -1.0 * before[:, None]))
            constraints = concatenated(needed) if len(needed) > 1 else needed[0]
            possible[:, k], low[:, k], high[:, k] = _contracted(constraints)
            possible[:, k] &= fits
            low[:, k], high[:, k] = np.where(fits[:, None], low[:, k], -1), np.where(fits[:, None], high[:, k], 1)
            doubtful = ~(constraints.range()[1] <= 0) & possible[:, k, None]
            share = abs(constraints.terms[1 : 1 + V]) / np.maximum(constraints.spread(), 1e-300)
            slopes = np.maximum(slopes, np.nan_to_num(np.where(doubtful, share, 0.0)).max(2, initial=0.0).T)
        return at, _Doubt(possible, low, high, slopes, y)


@dataclass(frozen=True, eq=False)
class _Doubt:
    """What can be picked: ``possible`` (B, C), on which part of the variables ``low``, ``high`` (B, C, V); ``slopes`` (B, V) of the
    constraints that are neither true nor false everywhere, as a share of their ranges; ``outputs`` of the network (B, k)."""

    possible: Array
    low: Array
    high: Array
    slopes: Array
    outputs: TaylorModel

    @property
    def blame(self) -> Array:
        several = self.possible.sum(1) > 1
        share = self.slopes / np.maximum(self.slopes.sum(1, keepdims=True), 1e-300)
        return np.where(several[:, None], share, 0.0)

    def worth_halving(self, width: Array) -> tuple[Array, Array]:
        """Which pieces, and along which variable; ``width`` (B, V) of the pieces."""
        if not width.shape[1]:
            return np.zeros(len(width), bool), np.zeros(len(width), np.int64)
        shares = np.where(self.possible, (0.5 * (self.high - self.low)).prod(2), 0.0)
        slopes = np.where(width > SMALLEST, self.slopes, 0.0)
        variable = slopes.argmax(1)
        known = np.isfinite(self.outputs.error).all(1)
        worth = (self.possible.sum(1) > 1) & (shares.sum(1) - 1 > WORTH) & (slopes.max(1) > LINEAR) & known
        return worth, variable


def _contracted(constraints: TaylorModel) -> tuple[Array, Array, Array]:
    """Where all values (B, k) can be <= 0 together: whether anywhere (B,), and a sub-box of the variables (B, V) beyond which not."""
    basis, K = constraints.basis, len(constraints.basis)
    V, terms = basis.variables, constraints.terms
    below, _ = constraints.range()
    possible = np.asarray(~(below > 0).any(1))
    low, high = -np.ones((len(possible), V)), np.ones((len(possible), V))
    slope = terms[1 : 1 + V]
    if not slope.size:
        return possible, low, high
    size = abs(slope)
    # slope . xi <= most: the part that is not linear, at its least
    curved = terms[1 + V : K]
    even = basis.even[1 + V : K].reshape(-1, 1, 1)
    least = np.where(even, np.maximum(-curved, 0.0), abs(curved)).sum(0) + abs(terms[K:]).sum(0) + constraints.error
    rounding = 4 * gamma(len(terms) + 16, FLOAT64) * constraints.size + FLOAT64.tiny
    most = least * (1 + _SLACK) - terms[0] + rounding
    for _ in range(CONTRACTIONS):
        smallest = np.minimum(slope * low.T[:, :, None], slope * high.T[:, :, None])
        total = smallest.sum(0)
        for v in range(V):
            room = most - (total - smallest[v]) + _SLACK * (abs(most) + size.sum(0))
            with np.errstate(divide="ignore", invalid="ignore"):
                end = room / slope[v]
                end, other = end + _SLACK * (1 + abs(end)), end - _SLACK * (1 + abs(end))
            above = np.where((slope[v] > 0) & (end < 1), end, 1.0).min(1)
            under = np.where((slope[v] < 0) & (other > -1), other, -1.0).max(1)
            high[:, v], low[:, v] = np.minimum(high[:, v], above), np.maximum(low[:, v], under)
        empty = np.asarray((low > high).any(1))
        possible = possible & ~empty
        low, high = np.where(empty[:, None], -1.0, low), np.where(empty[:, None], 1.0, high)
    return possible, low, high


def _width(states: TaylorModel, origin: Array) -> Array:
    """What each variable makes of the states (B, V), as a share of the range of all members of the same initial box."""
    width = np.zeros((len(origin), states.basis.variables))
    for which in np.unique(origin):
        at = origin == which
        width[at] = np.nan_to_num(shares(states[at])[0], nan=0.0)
    return width


def _halved(member: Array, low: Array, high: Array, variable: Array) -> tuple[Array, Array, Array]:
    at = np.arange(len(member))
    middle = 0.5 * (low[at, variable] + high[at, variable]) if len(at) else np.zeros(0)
    left, right = high.copy(), low.copy()
    left[at, variable], right[at, variable] = middle, middle
    return np.tile(member, 2), np.concatenate([low, right]), np.concatenate([left, high])


def _together(parts: Sequence[Picked]) -> Picked:
    def joined_up(name: str) -> Array:
        return np.concatenate([getattr(p, name) for p in parts])

    def both(name: str) -> tuple[Array, Array]:
        return tuple(np.concatenate([getattr(p, name)[side] for p in parts]) for side in (0, 1))  # type: ignore[return-value]

    return Picked(
        joined_up("member"), both("piece"), both("part"), joined_up("row"),
        stacked([p.inputs for p in parts]), joined_up("blame"),
    )  # fmt: skip


def _outputs(data: LoopData, network: Model) -> Model:
    """signals -> the network's outputs, one flat vector."""
    assert data.controller is not None
    builder = GraphBuilder()
    width = len(data.plant.signals)
    v = builder.input((width,), "signals")
    (fed,) = embed(builder, data.controller.network_inputs, [v])
    outputs = embed(builder, network, [fed])
    return finish(
        builder, outputs, (Tensor("signals", (width,)),),
        tuple(Tensor(f"y{i}", builder.shape(o)) for i, o in enumerate(outputs)), "network",
    )  # fmt: skip
