"""Formulas, their nodes and derivatives against balls of Arb; what is no formula or problem is refused."""

from __future__ import annotations

import flint
import numpy as np
import pytest
from flint import arb
from loops import FILES, REFUSED, check, network
from test_loop_proofs import BOUNDARY, FACES, box, level, linear, pendulum

from holdfast_check.arithmetic import Unreadable
from holdfast_check.bounds import enclose
from holdfast_check.derivative import Derivatives
from holdfast_check.formula import Formulas
from holdfast_check.problem_file import read_problem
from holdfast_check.slicing import sliced

# formula, the same in balls, its derivative by x and by y
FORMULAS = {
    "-x^2 + 3*y - .5": (lambda x, y: -(x * x) + 3 * y - arb(1) / 2, lambda x, y: -2 * x, lambda x, y: arb(3)),
    "x*y/(1 + x^2)": (lambda x, y: x * y / (1 + x * x), lambda x, y: y * (1 - x * x) / (1 + x * x) ** 2, lambda x, y: x / (1 + x * x)),
    "sin(2*pi*x)*cos(y)": (lambda x, y: (2 * arb.pi() * x).sin() * y.cos(), lambda x, y: 2 * arb.pi() * (2 * arb.pi() * x).cos() * y.cos(),
                           lambda x, y: -(2 * arb.pi() * x).sin() * y.sin()),
    "tanh(x - y)^3": (lambda x, y: (x - y).tanh() ** 3, lambda x, y: 3 * (x - y).tanh() ** 2 / (x - y).cosh() ** 2, lambda x, y: -3 * (x - y).tanh() ** 2 / (x - y).cosh() ** 2),
    "exp(x)*log(3 + y)": (lambda x, y: x.exp() * (3 + y).log(), lambda x, y: x.exp() * (3 + y).log(), lambda x, y: x.exp() / (3 + y)),
    "sqrt(2 + x) + (2 + x)^1.5": (lambda x, y: (2 + x).sqrt() + (2 + x) * (2 + x).sqrt(), lambda x, y: 1 / (2 * (2 + x).sqrt()) + (2 + x).sqrt() * 3 / 2, lambda x, y: arb(0)),
    "sigmoid(x)*abs(y + 2)": (lambda x, y: (y + 2) / (1 + (-x).exp()), lambda x, y: (y + 2) * (-x).exp() / (1 + (-x).exp()) ** 2, lambda x, y: 1 / (1 + (-x).exp())),
    "atan(x) + tan(y/2) + 1e-3": (lambda x, y: x.atan() + (y / 2).tan() + arb(1) / 1000, lambda x, y: 1 / (1 + x * x), lambda x, y: (1 + (y / 2).tan() ** 2) / 2),
    "asin(x/2) - acos(y/2)": (lambda x, y: (x / 2).asin() - (y / 2).acos(), lambda x, y: 1 / (4 - x * x).sqrt(), lambda x, y: 1 / (4 - y * y).sqrt()),
    "max(x, y, -5) - min(x, 7)": (lambda x, y: (x if x > y else y) - x, lambda x, y: arb(int(x > y)) - 1, lambda x, y: arb(int(y > x))),
    "2^x - x^-2^2*0": (lambda x, y: arb(2) ** x, lambda x, y: arb(2) ** x * arb(2).log(), lambda x, y: arb(0)),
    "(x - 3)^-2": (lambda x, y: 1 / (x - 3) ** 2, lambda x, y: -2 / (x - 3) ** 3, lambda x, y: arb(0)),
    "x^5 - (x^2)^2": (lambda x, y: x**5 - x**4, lambda x, y: 5 * x**4 - 4 * x**3, lambda x, y: arb(0)),
}  # fmt: skip


def space():
    f = Formulas([])
    f.append("input", (), 2)
    return f, f.elements(f.nodes[0])


def bounds(f, place, low, high):
    nodes, output = sliced(f.nodes, place)
    return enclose(nodes, output, (np.array([low], float), np.array([high], float)), lambda: None)


def within(value: arb, low: float, high: float) -> bool:
    return not value < arb(low) and not value > arb(high)


@pytest.mark.parametrize("text", FORMULAS)
def test_values_and_derivatives(text):
    """At points bounds are close to the balls of 200 bits, and hold them; on boxes they hold what is inside."""
    if "x^-2^2" in text:
        text_, x0 = text, 0.5
    else:
        text_, x0 = text, 0.0
    f, (x, y) = space()
    value = f.emit([f.read(text_, {"x": x, "y": y})]).place
    made = Derivatives(f)
    seeds = [f.gather([None, None], bias=np.eye(2)[k]).place for k in (0, 1)]
    places = [value, *(made.along(value, {0: s}) for s in seeds)]
    rng = np.random.default_rng(5)
    for width in (0.0, 0.1, 0.5):
        for point in rng.uniform(-0.9, 0.9, size=(6, 2)):
            point[0] = abs(point[0]) + x0 + 1e-3 if x0 else point[0]
            low, high = point - width, point + width
            if x0:
                low[0] = max(low[0], 1e-3)
            inside = np.clip(point + rng.uniform(-width, width, 2), low, high)
            flint.ctx.prec = 200
            exact = [g(arb(inside[0]), arb(inside[1])) for g in FORMULAS[text]]
            flint.ctx.prec = 53
            for place, ball in zip(places, exact, strict=True):
                if place is None:
                    assert ball == 0
                    continue
                below, above = (v.item() for v in bounds(f, place, low, high))
                assert within(ball, below, above), (inside, below, above)
                assert width or above - below < 1e-9 * (1 + abs(below))


def test_derivatives_of_a_network():
    """The derivative along a direction is that of differences, far below the error of these."""
    f, xs = space()
    rng = np.random.default_rng(2)
    layers = [
        (rng.normal(size=(8, 2)), rng.normal(size=8)),
        (rng.normal(size=(8, 8)), rng.normal(size=8)),
        (rng.normal(size=(1, 8)), [0.1]),
    ]
    for kind in ("Tanh", "Sigmoid", "Softplus", "LeakyRelu", "Exp", "Sin"):
        f, xs = space()
        from holdfast_check.network import read_network

        data = network(*layers, kind=kind)
        outputs, _ = f.attach(lambda nodes, data=data: read_network(data, "N", nodes, 0), xs, "N")
        value = f.emit(outputs).place
        seed = f.gather([None, None], bias=np.array([0.6, -0.8])).place
        slope = Derivatives(f).along(value, {0: seed})
        for x in rng.uniform(-1, 1, size=(5, 2)):
            h = 1e-6
            ends = [
                bounds(f, value, p, p)[0].item() for p in (x + h * np.array([0.6, -0.8]), x - h * np.array([0.6, -0.8]))
            ]
            below, above = (v.item() for v in bounds(f, slope, x, x))
            assert below <= above < below + 1e-9 * (1 + abs(below))
            assert below == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-6)


def test_kinks_have_all_slopes_between():
    f, (x, _) = space()
    value = f.emit([f.read("abs(x)", {"x": x})]).place
    slope = Derivatives(f).along(value, {0: f.gather([None, None], bias=np.array([1.0, 0.0])).place})
    below, above = (v.item() for v in bounds(f, slope, [0, 0], [0, 0]))
    assert below <= -1 and above >= 1


@pytest.mark.parametrize("text", [
    "", "x +", "x y", "2x", "(x", "x)", "sin x", "sin(x, y)", "max(1(x)", "max(1(x, y)", "foo(x)", "z", "x ** 2", "x = 1", "x <= 1", "1/0", "1/(2 - 2)", "sign(x)", "x^65",
    "x^(-1/0)", "log(-1)", "sqrt(0 - 2)", "__import__", "x.y", "0x10", "1e9999", "max()", "x;y", "x\n@", "(" * 200 + "x" + ")" * 200, "acos(2)",
])  # fmt: skip
def test_what_is_no_formula(text):
    f, (x, y) = space()
    with pytest.raises((Unreadable, RecursionError)):
        f.emit([f.read(text, {"x": x, "y": y})])


CHANGES = [
    ('kind = "ode"', 'kind = "pde"'), ('kind = "ode"', 'kind = "map"'), ("holdfast-problem/1", "holdfast-problem/2"), ('title = "t"', 'titel = "t"'),
    ('feedback = "continuous"', 'feedback = "sampled"\nperiod = 0.1'), ('feedback = "continuous"', ""), ('feedback = "continuous"', 'feedback = "continuous"\nperiod = 0.1'),
    ('network = "c.onnx"', 'network = "/c.onnx"'), ('network = "c.onnx"', 'network = "d.onnx"'), ('["th", "om"]\nplant', '["th"]\nplant'), ('T = "y0" }', 'T = "y1" }'),
    ('T = "y0" }', 'U = "y0" }'), ('T = "y0" }', 'T = "sign(y0)" }'), ("T = [-2.9, 2.9]", "T = [2.9, -2.9]"), ("T = [-2.9, 2.9]", "S = [-2.9, 2.9]"), ("om = [-3, 3]", "om = [-inf, 3]"),
    ("th = [-2, 2], ", ""), ('th = "om"', 'th = "om + T2"'), ('th = "om", ', ""), ('states = ["th", "om"]', 'states = ["th", "om", "th"]'), ('inputs = ["T"]', 'inputs = ["T", "S"]'),
    ('inputs = ["T"]', 'inputs = ["T"]\nschedule = { r = [[0, 1]] }'), ('inputs = ["T"]', 'inputs = ["T"]\nparameters = { pi = 1 }'), ('kind = "invariant"', 'kind = "always"'),
    ('kind = "invariant"', 'kind = "invariant"\nduring = [0, 1]'), ('function = "Q"', 'function = "R"'), ("at_most", "most"), ("th^2", "T^2"),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=[b[:40] for _, b in CHANGES])
def test_what_is_no_problem(change):
    text = pendulum(level("Q", "1.5"), "0.8").replace("[plant]", 'title = "t"\n[plant]', 1)
    assert check(text, BOUNDARY).startswith("verified") and change[0] in text
    with pytest.raises(REFUSED):
        check(text.replace(*change), BOUNDARY)


def test_instances_are_merged():
    text = (
        box("1", "0.4")
        + '\n[[instance]]\nid = "more"\nparameters = { b = 0.7 }\n[[instance]]\nid = "less"\nparameters = { b = [0.3, 0.5] }\n'
    )
    assert check(text, FACES, instance="less").startswith("verified (less)")
    for name in ("more", "", "other"):
        with pytest.raises(REFUSED):
            check(text, FACES, instance=name)
    other = (
        '\n[[instance]]\nid = "p"\n[[instance.property]]\nkind = "invariant"\nset = { where = ["x^2 + y^2 <= 1"] }\n'
    )
    assert check(box("3", "0.4") + other, BOUNDARY, instance="p").startswith("verified")
    assert read_problem((box("3") + other).encode(), "p", FILES.__getitem__).parameters == {}


def test_definitions_and_two_controllers():
    text = (
        linear(level("Q", "1"), "0.1")
        .replace("derivative", 'definitions = { c = "b/2", d = "c*2" }\nderivative', 1)
        .replace("b*y", "d*y")
    )
    assert check(text, BOUNDARY).startswith("verified")
    with pytest.raises(Unreadable):
        check(text.replace('c = "b/2", d = "c*2"', 'd = "c*2", c = "b/2"'), BOUNDARY)
