"""Certificates of closed loops: every kind of proof, true claims and false ones; nothing false is ever valid."""

from __future__ import annotations

import pytest
from loops import REFUSED, check

LINEAR = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x", "y"]
parameters = {{ a = -1.0, b = 0.5 }}
disturbances = {{ w = [-{w}, {w}] }}
derivative = {{ x = "a*x + b*y + w", y = "-b*x + a*y" }}
domain = {{ x = [-2, 2], y = [-2, 2] }}
[functions]
V = {{ network = "V.onnx", inputs = ["x", "y"] }}
Q = {{ expression = "x^2 + y^2" }}
[[property]]
{claim}
"""
MAP = """format = "holdfast-problem/1"
[plant]
kind = "map"
states = ["x", "y"]
parameters = {{ p = [0.4, {p}] }}
next = {{ x = "p*x + 0.3*tanh(y)", y = "0.3*sin(x) + {q}*y" }}
domain = {{ x = [-1, 1], y = [-1, 1] }}
[functions]
Q = {{ expression = "x^2 + y^2" }}
[[property]]
{claim}
"""
PENDULUM = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["th", "om"]
inputs = ["T"]
derivative = {{ th = "om", om = "{g}*sin(th) + T - 0.5*om" }}
domain = {{ th = [-2, 2], om = [-3, 3] }}
[controller]
network = "c.onnx"
feedback = "continuous"
network_inputs = ["th", "om"]
plant_inputs = {{ T = "y0" }}
saturate = {{ T = [-2.9, 2.9] }}
[functions]
Q = {{ expression = "2*th^2 + 0.8*th*om + om^2" }}
[[property]]
{claim}
"""
IMPLICIT = """format = "holdfast-problem/1"
[plant]
kind = "implicit-ode"
states = ["x", "v"]
derivative = {{ x = "v" }}
accelerations = ["v"]
mass = [["{m} + cos(x)"]]
forces = ["-2*x - 2*v"]
domain = {{ x = [-1, 1], v = [-1.5, 1.5] }}
[functions]
Q = {{ expression = "x^2 + 0.5*x*v + v^2" }}
[[property]]
{claim}
"""
BARRIER = """format = "holdfast-problem/1"
[plant]
kind = "{kind}"
states = ["x", "y"]
{rates} = {{ x = "{x}", y = "{y}" }}
domain = {{ x = [-2, 2], y = [-2, 2] }}
[initial]
x = [-{i}, {i}]
y = [-0.1, 0.1]
[functions]
B = {{ expression = "x^2 + y^2 - 1" }}
[[property]]
kind = "barrier"
function = "B"
unsafe = {{ where = ["x >= {u}"] }}
"""
INVARIANT = 'kind = "invariant"\nset = '
ATTRACTS = 'kind = "attracts"\nfrom = '
FACES = [{"method": "faces", "bases": [[0, 1]] * 4}]
IMAGE = [{"method": "image"}]
BOUNDARY = [{"method": "boundary"}]
POLYTOPE = "{{ polytope = {{ H = [[1, 0], [0, 1], [1, 1]], lower = [-0.5, -0.5, -{d}], upper = [0.5, 0.5, {d}], center = [0.1, 0.0] }} }}"
SKEWED = [{"method": "faces", "bases": [[0, 1], [1, 0], [2, 1], [0, 2], [1, 2], [2, 0]]}]


def ends(stage="0.01", /, **more):
    return [{"stages": [{"level": stage}], "end": more or "set"}]


def equilibrium(level="1/25", center=("0", "0"), P=(("1", "0"), ("0", "1"))):
    return {"center": list(center), "P": [list(row) for row in P], "level": level}


def two(level="0.09", text="x^2 + 1.0*y^2", first="0.5"):
    return [{"stages": [{"level": first}, {"function": text, "level": level}], "end": "set"}]


def linear(claim, w="0.1"):
    return LINEAR.format(w=w, claim=claim)


def box(h, w="0.1"):
    return linear(f"{INVARIANT}{{ box = {{ x = [-{h}, {h}], y = [-{h}, {h}] }} }}", w)


def level(function, c, kind=INVARIANT, more=""):
    return f'{kind}{{ level = {{ function = "{function}", at_most = {c} }} }}{more}'


def to(function, a):
    return level(function, a, "\nto = ")


ELLIPSE = "{{ ellipsoid = {{ center = [{c}, 0], P = [[1, {o}], [{o}, 1]], level = {r} }} }}"
TO = '\nto = "equilibrium"'


def still(claim):
    return linear(claim, "0.0").replace("disturbances = { w = [-0.0, 0.0] }\n", "").replace(" + w", "")


def moving(claim, p="0.5", q="0.6"):
    return MAP.format(claim=claim, p=p, q=q)


def pendulum(claim, g="1.0"):
    return PENDULUM.format(claim=claim, g=g)


def implicit(claim, m="2"):
    return IMPLICIT.format(claim=claim, m=m)


def guarded(i="0.5", u="1.5", x="-x + 0.5*y", y="-y", kind="ode"):
    return BARRIER.format(kind=kind, rates={"ode": "derivative", "map": "next"}[kind], i=i, u=u, x=x, y=y)


KEPT = [{"method": "barrier"}]
TRUE = {
    "box": (box("1"), FACES),
    "box, more disturbed": (box("1", "0.45"), FACES),
    "polytope": (linear(INVARIANT + POLYTOPE.format(d="0.6")), SKEWED),
    "level": (linear(level("Q", "1.0")), BOUNDARY),
    "level, kinks, sigmoid": (linear(level("V", "0.3")), BOUNDARY),
    "level within the domain": (linear(level("Q", "7.5"), "0.9"), BOUNDARY),
    "ellipsoid": (linear(INVARIANT + ELLIPSE.format(c="0.05", o="0.1", r="0.9")), BOUNDARY),
    "conditions": (linear(INVARIANT + '{ where = ["x^2 + y^2 <= 1", "x <= 0.8"] }'), BOUNDARY),
    "conditions, strict": (linear(INVARIANT + '{ where = ["x^2 + y^2 < 1"] }'), BOUNDARY),
    "attracts": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), ends("0.1")),
    "attracts, smaller level": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.2")), ends("1/10")),
    "attracts, sigmoid": (linear(level("V", "0.3", ATTRACTS) + to("V", "0.2")), ends("0.2")),
    "attracts, sigmoid to a box": (linear(level("V", "0.3", ATTRACTS) + "\nto = { box = { x = [-0.7, 0.7], y = [-0.7, 0.7] } }"), ends("0.2")),
    "attracts, ellipsoid": (linear(ATTRACTS + ELLIPSE.format(c="0", o="0.1", r="0.9") + to("Q", "0.5")), ends("0x1.8p-2")),
    "attracts, condition": (linear(ATTRACTS + '{ where = ["x^2 + y^2 <= 1"] }' + to("Q", "0.5")), ends("-0.6")),
    "attracts, two stages": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), two()),
    "two stages of a map": (moving(level("Q", "0.9", ATTRACTS) + to("Q", "0.1")), two("0.05", "x^2 + 1.1*y^2")),
    "attracts, two stages, the second of one state": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.6")), two("0.5", "1.01*x^2 + y^2")),
    "equilibrium": (still(level("Q", "1", ATTRACTS, TO)), ends("0.03", **equilibrium())),
    "equilibrium beside the centre": (still(level("Q", "1", ATTRACTS, TO)), ends("0.01", **equilibrium(center=("0.05", "-0.03")))),
    "equilibrium of a map": (moving(level("Q", "0.9", ATTRACTS, TO)), ends("0.03", **equilibrium())),
    "equilibrium of the pendulum": (pendulum(level("Q", "1.5", ATTRACTS, TO), "0.8"),
                                    ends("0.03", **equilibrium("1/25", P=(("2", "0.4"), ("0.4", "1"))))),
    "image of a box": (moving(INVARIANT + "{ box = { x = [-1, 1], y = [-1, 1] } }"), [{"method": "image", "basis": [0, 1]}]),
    "image of a polytope": (moving(INVARIANT + POLYTOPE.format(d="0.8")), [{"method": "image", "basis": [0, 1]}]),
    "image of a level set": (moving(level("Q", "0.8")), IMAGE),
    "image of a condition": (moving(INVARIANT + '{ where = ["x^2 + y^2 <= 0.8"] }'), IMAGE),
    "map attracts": (moving(level("Q", "0.9", ATTRACTS) + to("Q", "0.01")), ends("0.01")),
    "pendulum": (pendulum(level("Q", "1.5", ATTRACTS) + to("Q", "0.05"), "0.8"), ends("0.05")),
    "implicit": (implicit(level("Q", "0.7", ATTRACTS) + to("Q", "0.05")), ends("0.05")),
    "barrier": (guarded(), KEPT),
    "barrier of a map": (guarded(kind="map", x="0.5*x", y="0.5*y + 0.1*x"), KEPT),
}  # fmt: skip
FALSE = {
    "box, disturbed too much": (box("1", "0.501"), FACES),
    "box too small for the disturbance": (box("0.19"), FACES),
    "box, bases of the wrong sides": (box("1"), [{"method": "faces", "bases": [[0, 1]] * 3}]),
    "box, a basis without its side": (box("1"), [{"method": "faces", "bases": [[0, 0], *[[0, 1]] * 3]}]),
    "box, a basis of one": (box("1"), [{"method": "faces", "bases": [[0], *[[0, 1]] * 3]}]),
    "box, another method": (box("1"), BOUNDARY),
    "polytope, no inverse": (linear(INVARIANT + POLYTOPE.format(d="0.6").replace("[1, 1]]", "[0, 2]]")), SKEWED),
    "polytope too thin": (linear(INVARIANT + POLYTOPE.format(d="0.05")), SKEWED),
    "polytope, basis of another side": (linear(INVARIANT + POLYTOPE.format(d="0.6")), [{"method": "faces", "bases": [[1, 2], *SKEWED[0]["bases"][1:]]}]),
    "level too small for the disturbance": (linear(level("Q", "0.009")), BOUNDARY),
    "level beyond the domain": (linear(level("Q", "7.5"), "1.1"), BOUNDARY),
    "level, sigmoid, too small": (linear(level("V", "0.12"), "0.2"), BOUNDARY),
    "level from outside": (linear(INVARIANT + '{ level = { function = "Q", at_least = 0.5, at_most = 1 } }'), BOUNDARY),
    "ellipsoid beside": (linear(INVARIANT + ELLIPSE.format(c="1.2", o="0.1", r="0.9")), BOUNDARY),
    "ellipsoid without bounds": (linear(INVARIANT + ELLIPSE.format(c="0.0", o="1.0", r="0.9")), BOUNDARY),
    "condition left through the domain": (linear(INVARIANT + '{ where = ["y <= 3"] }', "1.1"), BOUNDARY),
    "condition left": (linear(INVARIANT + '{ where = ["x^2 + y^2 <= 1", "x <= 0.05"] }'), BOUNDARY),
    "attracts to a level that is too small": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.009")), ends("0.009")),
    "attracts to a level not reached": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), ends("0.11")),
    "attracts, levels not in order": (linear(level("Q", "0.05", ATTRACTS) + to("Q", "0.1")), ends("0.1")),
    "attracts, the wrong function": (linear(level("Q", "1", ATTRACTS) + to("V", "0.119")), ends("0.119")),
    "attracts to a box that is too small": (linear(level("V", "0.3", ATTRACTS) + "\nto = { box = { x = [-0.7, 0.7], y = [-0.55, 0.7] } }"), ends("0.2")),
    "attracts, two levels": (linear(ATTRACTS + '{ level = { function = "Q", at_most = 1, at_least = 0.5 } }' + to("Q", "0.1")), ends("0.1")),
    "two stages, the first too small": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), two(first="0.009")),
    "two stages, the second too small": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), two("0.009")),
    "two stages of a map, the second not kept": (moving(level("Q", "0.9", ATTRACTS) + to("Q", "0.1")), two("0.01", "y^2")),
    "equilibrium, the box of the ellipsoid beyond what contracts": (still(level("Q", "1", ATTRACTS, TO)).replace("a*x", "a*x + 1.5*sin(x)*x"), ends("0.03", **equilibrium(level="1"))),
    "two stages, not reached": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), two(level="0.11")),
    "two stages, a function that grows": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.5")), two(text="2 - x^2 - y^2", level="1.6")),
    "two stages, a function of more": (linear(level("Q", "1", ATTRACTS) + to("Q", "0.1")), two(text="x^2 + y^2 + 0*w")),
    "equilibrium, disturbed": (linear(level("Q", "1", ATTRACTS, TO)), ends("0.03", **equilibrium())),
    "equilibrium, wrong centre": (still(level("Q", "1", ATTRACTS, TO)), ends("0.001", **equilibrium(center=("0.2", "0.0")))),
    "equilibrium, wrong P": (still(level("Q", "1", ATTRACTS, TO)), ends("0.001", **equilibrium(P=(("1", "1.1"), ("1.1", "1"))))),
    "equilibrium, P that does not shrink": (still(level("Q", "1", ATTRACTS, TO)), ends("0.001", **equilibrium(P=(("30", "0"), ("0", "1"))))),
    "equilibrium, P not symmetric": (still(level("Q", "1", ATTRACTS, TO)), ends("0.001", **equilibrium(P=(("1", "0.1"), ("0", "1"))))),
    "equilibrium, wrong radius": (still(level("Q", "1", ATTRACTS, TO)), ends("0.03", **equilibrium(level="0.02"))),
    "equilibrium of an unstable pendulum": (pendulum(level("Q", "1.5", ATTRACTS, TO), "2.5"), ends("0.03", **equilibrium("1/25", P=(("2", "0.4"), ("0.4", "1"))))),
    "a set in place of the equilibrium": (still(level("Q", "1", ATTRACTS, TO)), ends("0.03")),
    "the equilibrium in place of a set": (still(level("Q", "1", ATTRACTS) + to("Q", "0.1")), ends("0.03", **equilibrium())),
    "equilibrium of a map that grows": (moving(level("Q", "0.9", ATTRACTS, TO), "0.5", "1.0"), ends("0.03", **equilibrium())),
    "image of a box too large": (moving(INVARIANT + "{ box = { x = [-1, 1], y = [-1, 1] } }", p="0.8"), [{"method": "image", "basis": [0, 1]}]),
    "image of a level set": (moving(level("Q", "0.8"), q="1.0"), IMAGE),
    "image of a level set that leaves the domain": (moving(level("Q", "1.9"), p="0.9"), IMAGE),
    "image of a condition that leaves the domain": (moving(INVARIANT + '{ where = ["x^2 + y^2 <= 1.9"] }', p="0.9"), IMAGE),
    "map attracts": (moving(level("Q", "0.9", ATTRACTS) + to("Q", "0.01"), q="0.99"), ends("0.01")),
    "pendulum too heavy": (pendulum(level("Q", "1.5", ATTRACTS) + to("Q", "0.05"), "2.5"), ends("0.05")),
    "pendulum beyond the torque": (pendulum(level("Q", "7", ATTRACTS) + to("Q", "0.05"), "2.4"), ends("0.05")),
    "implicit, the mass vanishes": (implicit(level("Q", "0.7", ATTRACTS) + to("Q", "0.05"), "-0.9"), ends("0.05")),
    "implicit, the wrong sign": (implicit(level("Q", "0.7", ATTRACTS) + to("Q", "0.05"), "-2"), ends("0.05")),
    "barrier, unsafe too near": (guarded(u="0.99"), KEPT),
    "barrier, initial too large": (guarded(i="0.996"), KEPT),
    "barrier, initial beyond the domain": (guarded(i="2.5").replace("x^2 + y^2 - 1", "y^2 - 1").replace("x >= 1.5", "y >= 1.5"), KEPT),
    "barrier, a flow outward": (guarded(x="-x + 2.5*y"), KEPT),
    "barrier, out of the domain": (guarded(x="1").replace("x^2 + y^2 - 1", "y^2 - 1").replace("x >= 1.5", "y >= 1.5"), KEPT),
    "barrier of a map": (guarded(kind="map", x="1.3*x", y="0.5*y"), KEPT),
    "a kink that is missed": (linear(level("V", "0.3"), "1.3"), BOUNDARY),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_true_claims_are_valid(name):
    assert check(*TRUE[name]).startswith("verified")


@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_refused(name):
    text, proofs = FALSE[name]
    with pytest.raises(REFUSED):
        check(text, proofs, count=None)
