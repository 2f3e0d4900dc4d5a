"""A certificate of a closed loop -> the conditions that it has to prove, by kind of property (section 4 of its format).

`numbered` are the queries whose regions the records speak of; `own` those that only the checker asks, and proves by itself;
`contractions` hold what section 5 asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

from holdfast_check.arithmetic import Invalid, Unreadable
from holdfast_check.conditions import (
    MINUS,
    Case,
    Function,
    Row,
    Space,
    decrease,
    flow_out,
    inside,
    later,
    singular,
    stay,
    step,
    violated,
)
from holdfast_check.contraction import Contraction
from holdfast_check.formula import Formulas, Sum, plus, scale
from holdfast_check.matrices import Matrix, independent, inverse, positive_definite, root_above
from holdfast_check.problem import (
    Facets,
    Inequality,
    Pair,
    Problem,
    affine,
    beyond,
    interval,
    logit,
    quadratic,
    rational,
)
from holdfast_check.property import number as exact
from holdfast_check.query import Query
from holdfast_check.sampled import Hold, held, turned
from holdfast_check.slicing import parted

SKEW = ("coordinates",)
Side = tuple[int, int, Fraction]  # row of H, 1 (upper) or -1 (lower), end


@dataclass
class Obligations:
    tick: Callable[[], None]
    numbered: list[Query] = field(default_factory=list)
    own: list[Query] = field(default_factory=list)
    contractions: list[Contraction] = field(default_factory=list)


def require(condition: Any, reason: str) -> None:
    if not condition:
        raise Invalid(reason)


def keys(given: Any, *names: str, more: tuple[str, ...] = ()) -> Any:
    fits = isinstance(given, dict) and {*names} <= given.keys() <= {*names, *more}
    require(fits, f"a proof does not have just the keys {', '.join(names)}")
    return given


def rational_text(text: str) -> Fraction:
    """A decimal or hexadecimal number, or a quotient of two."""
    try:
        top, _, bottom = text.partition("/")
        return exact(top) / exact(bottom) if bottom else exact(text)
    except (Unreadable, ZeroDivisionError):
        raise Invalid(f"{text[:40]} is not a number") from None


def texts(values: Any, n: int) -> list[Fraction]:
    require(isinstance(values, list) and len(values) == n, f"a list does not have {n} entries")
    return [rational_text(v) for v in values]


def skewed(given: Mapping[str, Any], n: int) -> list[list[Fraction]] | None:
    """The matrix of coordinates, if there is one; that it is invertible is seen where it is used."""
    if "coordinates" not in given:
        return None
    rows = given["coordinates"]
    require(isinstance(rows, list) and len(rows) == n, "coordinates do not have a row for each state")
    return [texts(row, n) for row in rows]


def obligations(problem: Problem, proofs: Any, tick: Callable[[], None] = lambda: None) -> Obligations:
    """`tick` is called before long computations; it may raise."""
    todo = Obligations(tick)
    require(
        isinstance(proofs, list) and len(proofs) == len(problem.properties) > 0,
        "there is not one proof for each property, or none is claimed",
    )
    for claim, proof in zip(problem.properties, proofs, strict=True):
        require(problem.period is None or claim["kind"] == "invariant", "of a sampled loop only invariants are proved")
        KINDS[claim["kind"]](problem, claim, proof, todo)
    todo.numbered = [part for one in todo.numbered for part in parted(one)]
    return todo


def hull(problem: Problem, given: Mapping[str, Any]) -> list[Pair]:
    """A box that contains a set."""
    n = len(problem.states)
    if "ellipsoid" in given:
        center, P, level = problem.ellipsoid(given["ellipsoid"])
        require(level > 0 and positive_definite(P), "an ellipsoid is not bounded")
        reach = [root_above(level * row[i]) for i, row in enumerate(inverse(P))]
        return [(c - d, c + d) for c, d in zip(center, reach, strict=True)]
    if (facets := problem.facets(given)) is not None:
        return hull_of_facets(facets, n)
    return domain(problem)


def domain(problem: Problem) -> list[Pair]:
    require(len(problem.domain) == len(problem.states), "a state has no bounds in the domain")
    return [problem.domain[i] for i in range(len(problem.states))]


def hull_of_facets(p: Facets, n: int) -> list[Pair]:
    """The hull of what n independent rows that are bounded on both sides leave; the first ones that do."""
    basis: list[int] = []
    for j, row in enumerate(p.H):
        if p.lower[j] is not None and p.upper[j] is not None and independent([p.H[i] for i in basis], row):
            basis.append(j)
    require(len(basis) == n, "a box or polytope has no basis of rows that are bounded on both sides")
    ends = [
        (low, high) for low, high in ((p.lower[j], p.upper[j]) for j in basis) if low is not None and high is not None
    ]
    found = []
    for row, c in zip(inverse([p.H[j] for j in basis]), p.center, strict=True):
        parts = [sorted((w * low, w * high)) for w, (low, high) in zip(row, ends, strict=True)]
        found.append((c + sum(a for a, _ in parts), c + sum(b for _, b in parts)))
    return found


# ---- invariant


def invariant(problem: Problem, claim: Mapping[str, Any], proof: Any, todo: Obligations) -> None:
    given, method = claim["set"], proof.get("method")
    facets, ode = problem.facets(given), problem.kind == "ode"
    if problem.period is not None:
        kept_while_held(problem, given, keys(proof, "method", "hold", more=SKEW), todo)
    elif facets is not None and ode:
        faces(problem, facets, keys(proof, "method", "bases"), todo)
    elif facets is not None:
        image_of_facets(problem, facets, keys(proof, "method", "basis"), todo)
    elif ode:
        boundary(problem, given, keys(proof, "method", more=SKEW), todo)
    else:
        image(problem, given, keys(proof, "method", more=SKEW), todo)
    require(
        method == ("held" if problem.period else "image" if not ode else "boundary" if facets is None else "faces"),
        f"the method {method!r} is not one for this set",
    )


def sides_of(p: Facets) -> list[Side]:
    return [(k, sign, e) for ends, sign in ((p.upper, 1), (p.lower, -1)) for k, e in enumerate(ends) if e is not None]


def coordinates(p: Facets, basis: Any, s: Space, fixed: Side | None = None) -> list[Pair]:
    """Makes the coordinates of the space those of rows of H; the box of these."""
    n = len(s.x)
    fine = (
        isinstance(basis, list)
        and all(type(j) is int and 0 <= j < len(p.H) for j in basis)
        and len(set(basis)) == len(basis) == n
    )
    require(fine, "a basis does not consist of rows, one for each state")
    matrix = inverse([p.H[j] for j in basis])
    s.x = [affine(row, s.x, [Fraction(0)] * n) for row in matrix]
    s.x = [Sum(x.weights, c) for x, c in zip(s.x, p.center, strict=True)]
    box: list[Pair] = []
    for j in basis:
        low, high = (fixed[2], fixed[2]) if fixed and fixed[0] == j else (p.lower[j], p.upper[j])
        require(
            low is not None and high is not None and low <= high,
            f"row {j} of a basis is not bounded on both sides, or nothing is left",
        )
        box.append((low, high))
    return box


def others(p: Facets, basis: Sequence[int], s: Space) -> Case:
    rows = [(i, affine(p.H[i], s.x, p.center)) for i in range(len(p.H)) if i not in basis]
    return [
        (beyond(y, e, sign), False) for i, y in rows for e, sign in ((p.upper[i], 1), (p.lower[i], -1)) if e is not None
    ]


def faces(problem: Problem, p: Facets, proof: Mapping[str, Any], todo: Obligations) -> None:
    sides, bases, partial = sides_of(p), proof["bases"], False
    require(isinstance(bases, list) and len(bases) == len(sides) > 0, "there is not one basis for each side")
    for side, basis in zip(sides, bases, strict=True):
        s = Space(problem)
        box = coordinates(p, basis, s, side)
        require(side[0] in basis, "the basis of a side does not have its row")
        outward = affine(p.H[side[0]], s.rates(), [Fraction(0)] * len(s.x))
        case = [*others(p, basis, s), (scale(outward, Fraction(-side[1])), True)]
        todo.numbered.append(s.query([(box, [case])]))
        partial = partial or bool(singular(s.f))
    if partial:
        whole: list[int] = next(
            (b for b in bases if all(p.lower[j] is not None and p.upper[j] is not None for j in b)), []
        )
        s = Space(problem)
        box = coordinates(p, whole, s)
        s.f.emit(s.rates())
        rows = others(p, whole, s)
        todo.own.append(s.query([(box, [])], rows))


def image_of_facets(problem: Problem, p: Facets, proof: Mapping[str, Any], todo: Obligations) -> None:
    s, basis = Space(problem), proof["basis"]
    box = coordinates(p, basis, s)
    rows, rates = others(p, basis, s), s.rates()
    then = [affine(row, rates, p.center) for row in p.H]
    cases = [[*rows, (scale(beyond(then[k], e, sign), MINUS), True)] for k, sign, e in sides_of(p)]
    todo.numbered.append(s.query([(box, cases)], rows))


def members(found: Sequence[Inequality]) -> Case:
    """The rows that say that a point lies in a set; those of the domain are in the region."""
    return [(one.value, False) for one in found if not one.side]


def boundary(problem: Problem, given: Mapping[str, Any], proof: Any, todo: Obligations) -> None:
    box, s = hull(problem, given), Space(problem, matrix=skewed(proof, len(problem.states)))
    found = [one for one in problem.inequalities(s.f, given, s.x) if not one.side]
    rows, rates, regions = members(found), s.rates(), []
    for one, rate, row in zip(found, s.moved([g.value for g in found], rates), rows, strict=True):
        case = [*(r for r in rows if r is not row), row, (scale(one.value, MINUS), False), (scale(rate, MINUS), False)]
        regions.append((box, [case]))
    todo.numbered.append(s.query(regions, rows))
    if "ellipsoid" not in given:  # leaving the domain is leaving the set
        s = Space(problem)
        rows = members(problem.inequalities(s.f, given, s.x))
        todo.numbered.append(s.query(flow_out(s.rates(), box, rows)))


def image(problem: Problem, given: Mapping[str, Any], proof: Any, todo: Obligations) -> None:
    box, s = hull(problem, given), Space(problem, matrix=skewed(proof, len(problem.states)))
    rates, rows = s.rates(), members(problem.inequalities(s.f, given, s.x))
    then = problem.inequalities(s.f, given, rates)
    todo.numbered.append(s.query([(box, [[*rows, violated(one)] for one in then])], rows))


def kept_while_held(problem: Problem, given: Mapping[str, Any], proof: Mapping[str, Any], todo: Obligations) -> None:
    n, data, boxes = len(problem.states), keys(proof["hold"], "order", "states", "remainder"), []
    if (matrix := skewed(proof, n)) is not None:
        require("ellipsoid" in given, "only ellipsoids of sampled loops have other coordinates")
        problem, given = turned(problem, given, matrix)
    for key in ("states", "remainder"):
        require(isinstance(data[key], list) and len(data[key]) == 2, f"{key} does not have two ends")
        boxes.append(list(zip(*(texts(ends, n) for ends in data[key]), strict=True)))
    ordered = type(data["order"]) is int and all(a <= b for box in boxes for a, b in box)
    require(ordered, "the order is not a whole number, or the ends of a box are not in order")
    condition, before = held(problem, given, hull(problem, given), Hold(data["order"], *boxes), todo.tick)
    todo.numbered.append(condition)
    todo.own += [one for one in before if one.regions[0].cases]


# ---- attracts, barrier, until


def start(problem: Problem, given: Mapping[str, Any]) -> tuple[Function, Fraction]:
    """The set `from` as {h <= b}."""
    if "level" in given:
        name, data = given["level"]["function"], given["level"]
        require(data.keys() == {"function", "at_most"}, "the set that is left has more than one level")
        s = Space(problem, moving=False)
        stripped = problem.function(s.f, name, s.x)[1]
        h = Function(lambda f, x: problem.function(f, name, x)[0], logit if stripped else lambda c: c)
        return h, rational(data["at_most"])
    if "ellipsoid" in given:
        center, P, level = problem.ellipsoid(given["ellipsoid"])
        return Function(lambda f, x: quadratic(f, P, center, x, Fraction(0))), level
    require("where" in given and len(given["where"]) == 1, "the set that is left is not one of a single inequality")
    return Function(lambda f, x: problem.inequalities(f, given, x)[0].value), Fraction(0)


def kept(
    problem: Problem, h: Function, box: list[Pair], a: Fraction, b: Fraction, matrix: Matrix | None = None
) -> list[Query]:
    """{h <= b} is kept, and h falls where it is at least a."""
    if problem.kind == "map":
        return [step(problem, h, box, a, b, matrix)]
    return [decrease(problem, h, box, a, b, matrix), stay(problem, h, box, b)]


def attracts(problem: Problem, claim: Mapping[str, Any], proof: Any, todo: Obligations) -> None:
    keys(proof, "stages", "end", more=SKEW)
    first, target, stages, n = claim["from"], claim["to"], proof["stages"], len(problem.states)
    require(isinstance(stages, list) and stages, "there are no stages")
    keys(stages[0], "level", more=SKEW)
    (h, b), box, a = start(problem, first), hull(problem, first), rational_text(stages[0]["level"])
    require(a < b, "the levels of the first stage are not in order")
    todo.numbered += kept(problem, h, box, a, b, skewed(stages[0], n))
    reached = [(h, a)]
    for stage in stages[1:]:
        keys(stage, "function", "level", more=SKEW)
        reached.append((carried(problem, stage["function"]), rational_text(stage["level"])))
        todo.numbered.append(later(problem, box, reached, skewed(stage, n)))
    arrives = partial(inside, problem, reached, box, matrix=skewed(proof, n))
    if proof["end"] == "set":
        require(isinstance(target, dict), "the proof ends with a set, the claim does not")
        if target != {"level": {"function": first.get("level", {}).get("function"), "at_most": a}}:
            todo.numbered.append(arrives(target=lambda s: problem.inequalities(s.f, target, s.x)))
        return
    still = target == "equilibrium" and not problem.disturbances
    require(still, "a proof of an equilibrium is not one of this claim, or there are disturbances")
    end = keys(proof["end"], "center", "P", "level")
    center, P, r = texts(end["center"], n), [texts(row, n) for row in end["P"]], rational_text(end["level"])
    require(len(P) == n, "P does not have a row for each state")
    todo.numbered.append(arrives(target=lambda s: [Inequality(quadratic(s.f, P, center, s.x, r))]))
    todo.contractions.append(Contraction(problem, center, P, r))


def carried(problem: Problem, text: Any) -> Function:
    """A function that the proof brings along."""

    def value(f: Formulas, x: Sequence[Sum]) -> Sum:
        try:
            return problem.formula(f, text, x)
        except Unreadable as error:
            raise Invalid(f"a function of the proof: {error}") from None

    return Function(value)


def begins(problem: Problem, claim: Mapping[str, Any], todo: Obligations) -> tuple[Function, list[Pair]]:
    """The function is at most 0 on the initial box; it, and the domain, in which this lies."""
    require(problem.initial.keys() == {*problem.states}, "the initial box does not name each state")
    box = domain(problem)
    initial = [interval(problem.initial[s]) for s in problem.states]
    require(
        all(d[0] <= i[0] and i[1] <= d[1] for d, i in zip(box, initial, strict=True)),
        "the initial box does not lie in the domain",
    )
    h = Function(lambda f, x: problem.function(f, claim["function"], x, strip=False)[0])
    todo.numbered.append(inside(problem, [], initial, lambda s: [Inequality(h.value(s.f, s.x))], moving=False))
    return h, box


def barrier(problem: Problem, claim: Mapping[str, Any], proof: Any, todo: Obligations) -> None:
    require(keys(proof, "method")["method"] == "barrier", "the method is not one for a barrier")
    (h, box), zero = begins(problem, claim, todo), Fraction(0)
    s = Space(problem, moving=False)
    rows = members([*problem.inequalities(s.f, claim["unsafe"], s.x), Inequality(h.value(s.f, s.x))])
    todo.numbered.append(s.query([(box, [rows])]))
    todo.numbered += kept(problem, h, box, zero, zero)


def until(problem: Problem, claim: Mapping[str, Any], proof: Any, todo: Obligations) -> None:
    """{h <= 0} lies in `first`, and h falls in it, outside of `then`; so does nothing leave the domain there."""
    require(keys(proof, "method")["method"] == "reach-avoid", "the method is not one for until")
    (h, box), ode = begins(problem, claim, todo), problem.kind == "ode"
    below = [(h, Fraction(0))]
    todo.numbered.append(
        inside(problem, below, box, lambda s: problem.inequalities(s.f, claim["first"], s.x), moving=False)
    )
    s = Space(problem)
    value, rates = h.value(s.f, s.x), s.rates()
    now: Row = (value, False)
    outside = [
        (scale(one.value, MINUS), False) for one in problem.inequalities(s.f, claim["then"], s.x) if not one.side
    ]
    if ode:
        fall: Row = (scale(s.moved([value], rates)[0], MINUS), False)
        regions = [(box, [[now, row, fall] for row in outside])]
        out = Space(problem)
        there = (h.value(out.f, out.x), False)
        beside = [
            (scale(one.value, MINUS), False)
            for one in problem.inequalities(out.f, claim["then"], out.x)
            if not one.side
        ]
        faces_ = flow_out(out.rates(), box, [there])
        leaving = [(face, [[there, row, rows[-1]] for row in beside]) for face, (rows,) in faces_]
        todo.numbered += [s.query(regions, [now]), out.query(leaving)]
        return
    then = h.value(s.f, rates)
    cases: list[Case] = [[now, row, (plus(value, then, MINUS), False)] for row in outside]
    for side in problem.sides(rates, dict(enumerate(box))):
        cases += [[now, row, violated(side)] for row in outside]
    todo.numbered.append(s.query([(box, cases)], [now]))


KINDS = {"invariant": invariant, "attracts": attracts, "barrier": barrier, "until": until}
