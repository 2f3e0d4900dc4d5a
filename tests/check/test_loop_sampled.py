"""Sampled loops, and `until` with a function: true claims, and every way to make them false; what is proved of continuous feedback is not enough."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
from loops import FILES, REFUSED, check, network
from test_loop_proofs import BOUNDARY, FACES

from holdfast_check.arithmetic import Invalid
from holdfast_check.flow import along, jacobian
from holdfast_check.formula import Formulas
from holdfast_check.loop import obligations
from holdfast_check.problem_file import read_problem
from holdfast_check.sampled import series

FILES.setdefault("steep.onnx", network(([[1]], [0]), ([[-4]], [0])))  # u = -4 tanh(x)

PENDULUM = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["th", "om"]
inputs = ["T"]
parameters = {{ k = [0.95, 1.05] }}
derivative = {{ th = "om", om = "k*sin(th) + T - 0.5*om" }}
domain = {{ th = [-2, 2], om = [-3, 3] }}
[controller]
network = "c.onnx"
feedback = "sampled"
period = {period}
network_inputs = ["th", "om"]
plant_inputs = {{ T = "y0" }}
saturate = {{ T = [-2.9, 2.9] }}
[functions]
Q = {{ expression = "2*th^2 + 0.8*th*om + om^2" }}
[[property]]
kind = "invariant"
set = {set}
"""
KINKS = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "y"]
inputs = ["u"]
disturbances = {{ w = [-{w}, {w}] }}
derivative = {{ x = "-x + 0.5*y + w", y = "u - 0.5*x - abs(y) * 0.1" }}
domain = {{ x = [-2, 2], y = [-2, 2] }}
[controller]
network = "c.onnx"
feedback = "sampled"
period = {period}
network_inputs = ["x + w", "y"]
plant_inputs = {{ u = "y0" }}
[[property]]
kind = "invariant"
set = {{ ellipsoid = {{ center = [0, 0], P = [[2, 0.1], [0.1, 1]], level = 0.25 }} }}
"""
STEEP = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x"]
inputs = ["u"]
derivative = {{ x = "u" }}
[controller]
network = "steep.onnx"
feedback = "{feedback}"
{period}
network_inputs = ["x"]
plant_inputs = {{ u = "y0" }}
[[property]]
kind = "invariant"
set = {{ box = {{ x = [-0.5, 0.5] }} }}
"""
ELLIPSOID = "{ ellipsoid = { center = [0, 0], P = [[2, 0.4], [0.4, 1]], level = 0.25 } }"
LEVEL = '{ level = { function = "Q", at_most = 0.25 } }'


def held(order, states, remainder):
    """Boxes about 0, by their half-widths."""
    box = {
        key: [[f"-{v}" for v in ends], [str(v) for v in ends]]
        for key, ends in (("states", states), ("remainder", remainder))
    }
    return [{"method": "held", "hold": {"order": order, **box}}]


SMOOTH, ROUGH = held(2, ["0.41", "0.61"], ["0.004", "0.008"]), held(2, ["0.39", "0.58"], ["0.009", "0.011"])


def turned(proofs, *rows):
    """The same numbers, meant in other coordinates."""
    return [{**proofs[0], "coordinates": [list(row) for row in rows]}]


# z = Y x is at most 1 on the ellipsoid
ROUND = turned(held(2, ["1.3", "1.3"], ["0.03", "0.03"]), ("2.828", "0.566"), ("0", "1.918"))


def pendulum(set_=ELLIPSOID, period="0.05"):
    return PENDULUM.format(set=set_, period=period)


def kinks(w="0.02", period="0.1"):
    return KINKS.format(w=w, period=period)


def steep(period="0.1"):
    return STEEP.format(feedback="sampled" if period else "continuous", period=f"period = {period}" if period else "")


def changed(proofs, key, value):
    new = copy.deepcopy(proofs)
    new[0]["hold"][key] = value
    return new


def scaled(proofs, key, factor, which=(0, 1)):
    ends = copy.deepcopy(proofs[0]["hold"][key])
    for i in which:
        ends[i] = [str(Fraction(v) * Fraction(factor)) for v in ends[i]]
    return changed(proofs, key, ends)


TRUE = {
    "in other coordinates": (pendulum(), ROUND),
    "smooth": (pendulum(), SMOOTH),
    "kinks, disturbed, measured with an error": (kinks(), ROUGH),
    "order 1": (steep(), held(1, ["0.75"], ["0.2"])),
    "a box of one state": (steep("0.25"), held(1, ["1.1"], ["0.47"])),
}  # fmt: skip
FALSE = {
    "unstable, in other coordinates": (pendulum().replace("T - 0.5*om", "T + 1.5*om"), ROUND),
    "coordinates that are no basis": (pendulum(), turned(ROUND, ("1", "1"), ("1", "1"))),
    "coordinates of too few rows": (pendulum(), turned(ROUND, ("1", "1"))),
    "coordinates of a set that is no ellipsoid": (pendulum(LEVEL), ROUND),
    "a box in coordinates that are larger": (pendulum(), turned(ROUND, ("28.28", "5.66"), ("0", "19.18"))),
    "period doubled": (pendulum(period="0.1"), SMOOTH),
    "period doubled, kinks": (kinks(period="0.2"), ROUGH),
    "a set that is left at the next sample": (steep("0.6"), held(1, ["1.7"], ["1.2"])),
    "remainder a quarter": (pendulum(), scaled(SMOOTH, "remainder", "1/4")),
    "remainder a quarter above": (pendulum(), scaled(SMOOTH, "remainder", "1/4", [1])),
    "remainder halved, kinks": (kinks(), scaled(ROUGH, "remainder", "1/2")),
    "remainder without what disturbances do": (kinks(), scaled(ROUGH, "remainder", "1/5")),
    "remainder of one sign": (kinks(), scaled(ROUGH, "remainder", "-1", [0])),
    "order raised beyond a kink": (kinks(), changed(ROUGH, "order", 3)),
    "order lowered": (pendulum(), changed(SMOOTH, "order", 1)),
    "order 0": (pendulum(), changed(SMOOTH, "order", 0)),
    "order without end": (pendulum(), changed(SMOOTH, "order", 10**6)),
    "order no number": (pendulum(), changed(SMOOTH, "order", "2")),
    "states shrunk": (pendulum(), scaled(SMOOTH, "states", "19/20")),
    "states shrunk on one side": (pendulum(), scaled(SMOOTH, "states", "19/20", [0])),
    "states that are the set": (steep(), held(1, ["0.5"], ["0.2"])),
    "states, no box": (pendulum(), changed(SMOOTH, "states", [["0.4", "0.6"]])),
    "states of one": (pendulum(), changed(SMOOTH, "states", [["-1"], ["1"]])),
    "states upside down": (pendulum(), scaled(SMOOTH, "states", "-1")),
    "disturbed more": (kinks("0.04"), ROUGH),
    "set too small for the disturbance": (kinks("0.4"), held(2, ["0.9", "0.9"], ["0.1", "0.1"])),
    "the proof of continuous feedback": (steep(), FACES),
    "another method": (pendulum(), BOUNDARY),
    "the proof of a sampled loop for continuous feedback": (steep(""), held(1, ["0.75"], ["0.2"])),
    "two keys more": (pendulum(), [SMOOTH[0] | {"more": 1}]),
    "unstable": (pendulum().replace("T - 0.5*om", "T + 1.5*om"), held(2, ["0.5", "0.8"], ["0.02", "0.03"])),
    "not an invariant": (pendulum().replace('"invariant"', '"attracts"').replace("set =", 'to = "equilibrium"\nfrom ='), SMOOTH),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_true_claims_are_valid(name):
    assert check(*TRUE[name]).startswith("verified")


@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_refused(name):
    with pytest.raises(REFUSED):
        check(*FALSE[name])


def test_nothing_of_a_sampled_loop_is_refuted():
    escape = {
        "property": 0,
        "state": ["0.5"],
        "disturbances": [],
        "parameters": [],
        "side": 0,
        "radius": ["1"],
        "time": "1",
    }
    with pytest.raises(REFUSED):
        check(steep("0.6"), escape=escape)


# ---- derivatives and deviations


def test_lie_derivatives_of_the_exponential():
    """x' = a x + tanh(a - a): L^k x = a^k x, here with a = 3; and of x' = x^2: k! x^(k+1)."""
    f = Formulas([])
    x, y = f.elements(f.append("input", (), 2))
    (l1, l2, l3) = along(f, [x, y], [f.read("3*x", {"x": x}), f.read("y^2", {"y": y})], 3)
    assert [dict(v[0].weights) for v in (l1, l2, l3)] == [{next(iter(x.weights)): 3**k} for k in (1, 2, 3)]
    values = [f.emit([v[1]]) for v in (l1, l2, l3)]
    assert len(values) == 3
    assert jacobian(f, [x], [f.read("abs(x)", {"x": x})])[0][0].constant == -1


def test_no_derivative_beyond_a_kink():
    f = Formulas([])
    (x,) = f.elements(f.append("input", (), 1))
    along(f, [x], [f.read("1 + abs(x)", {"x": x})], 2)
    with pytest.raises(REFUSED):
        along(f, [x], [f.read("1 + abs(x)", {"x": x})], 3)


@pytest.mark.parametrize("m, h", [(0, 1), (1, 1), (4, "1/3"), (20, 1)])
def test_the_series_is_bounded_from_above(m, h):
    """(exp(m h) - 1) / m by 600 terms."""
    h = Fraction(h)
    exact, term = Fraction(0), h
    for k in range(1, 600):
        exact, term = exact + term, term * m * h / (k + 1)
    (found,) = series([[Fraction(m)]], [Fraction(1)], h)
    assert exact <= found <= exact * (1 + Fraction(1, 10**6))


# x is disturbed, y and z are not: y(t_k + s) = y + s z + (s/h)^2 h^2/2 u, which is not s/h times a remainder of one sign
APART = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "y", "z"]
inputs = ["u"]
disturbances = {{ w = [-0.01, 0.01] }}
derivative = {{ x = "-x + w", y = "z", z = "u" }}
[controller]
network = "steep.onnx"
feedback = "sampled"
period = 0.1
network_inputs = ["x"]
plant_inputs = {{ u = "y0 + 10" }}
[[property]]
kind = "invariant"
set = {{ box = {{ x = [-1, 1], y = [-1, 1], z = [-1, 1] }} }}
"""


@pytest.mark.parametrize("least, fine", [("0", True), ("0.01", False)])
def test_remainders_of_undisturbed_states_hold_zero_where_others_are_disturbed(least, fine):
    states, remainder = [["-3"] * 3, ["3"] * 3], [["-1", least, "-1"], ["1", "0.08", "1"]]
    proofs = [{"method": "held", "hold": {"order": 2, "states": states, "remainder": remainder}}]
    problem = read_problem(APART.format().encode(), "", FILES.__getitem__)
    if fine:
        obligations(problem, proofs)
    else:
        with pytest.raises(Invalid, match="no room"):
            obligations(problem, proofs)


# ---- reach-avoid

UNTIL = """format = "holdfast-problem/1"
[plant]
kind = "{kind}"
states = ["x", "y"]
disturbances = {{ w = [-0.01, 0.01] }}
{rates} = {{ x = "{x} + w", y = "{y}" }}
domain = {{ x = [-2, 2], y = [-2, {top}] }}
[initial]
x = [-{start}, {start}]
y = [-0.6, 0.6]
{horizon}
[functions]
V = {{ expression = "x^2 + y^2 - 1" }}
[[property]]
kind = "until"
first = {{ where = ["x <= {first}", "x >= -1.2", "y < 1.1"] }}
then = {then}
function = "V"
"""
GOAL = "{ ellipsoid = { center = [0, 0], P = [[1, 0], [0, 1]], level = 0.05 } }"
SQUARE = "{ box = { x = [-0.3, 0.3], y = [-0.3, 0.3] } }"
CORNER = '{ where = ["x^2 + y^2 <= 0.2", "x + y <= 0.6"] }'


def until(x="-x + 0.2*y", y="-y - 0.3*x*y", first="1.2", then=GOAL, start="0.6", top="2", horizon="", kind="ode"):
    rates = {"ode": "derivative", "map": "next"}[kind]
    return UNTIL.format(x=x, y=y, first=first, then=then, start=start, top=top, horizon=horizon, kind=kind, rates=rates)


AVOID = [{"method": "reach-avoid"}]
REACHED = {
    "a ball": until(),
    "a box": until(then=SQUARE),
    "conditions": until(then=CORNER),
    "a map": until(x="0.5*x + 0.1*y", y="0.5*y", kind="map"),
    "a map to a box": until(x="0.5*x + 0.1*y", y="0.5*y", kind="map", then=SQUARE),
}
MISSED = {
    "goal moved": until(then=GOAL.replace("[0, 0]", "[0.5, 0]")),
    "goal smaller than the disturbance": until(then=GOAL.replace("0.05", "1e-5")),
    "goal of one quarter": until(then='{ where = ["x >= 0.05"] }'),
    "unsafe corner": until(first="0.99"),
    "initial set too large": until(start="0.81"),
    "initial set beyond the domain": until(start="2.1"),
    "out of the domain": until(top="0.9", x="-x", y="1 - y + 0*x"),
    "it rises": until(x="-x + 3*y", y="-y - x"),
    "within a horizon": until(horizon="[horizon]\ntime = 0.001"),
    "during": until() + "during = [0, 1]\n",
    "a map that grows": until(x="0.5*x + 0.1*y", y="1.01*y", kind="map"),
    "a map that does not reach": until(x="0.5*x + 0.1*y", y="0.5*y", kind="map", then=GOAL.replace("0.05", "1e-5")),
}


@pytest.mark.parametrize("name", REACHED)
def test_goals_are_reached(name):
    assert check(REACHED[name], AVOID).startswith("verified")


@pytest.mark.parametrize("name", MISSED)
def test_goals_that_are_missed(name):
    with pytest.raises(REFUSED):
        check(MISSED[name], AVOID)


@pytest.mark.parametrize("proofs", [[{"method": "barrier"}], [{"method": "reach-avoid", "more": 1}], [{}], []])
def test_other_proofs_of_until(proofs):
    with pytest.raises(REFUSED):
        check(until(), proofs)
