"""Claims of kinds attracts, barrier and until of small systems whose truth is known: false ones that have a finite proof are
refuted, by a state that exact arithmetic confirms; true ones, however tight, never are."""

from fractions import Fraction

import flint
import pytest

from holdfast.invariance.decide import decide
from holdfast.load.problem import load_problem
from holdfast.verdict import Refutation, Verdict

HEAD = 'format = "holdfast-problem/1"\ntitle = "small"\n'
BOX = "domain = { x = [-2, 2], y = [-2, 2] }"
V = '[functions]\nV = { expression = "x^2 + y^2" }\n'


def plant(x: str, y: str, kind: str = "ode", more: str = "") -> str:
    key = "derivative" if kind == "ode" else "next"
    return f'{HEAD}[plant]\nkind = "{kind}"\nstates = ["x", "y"]\n{key} = {{ x = "{x}", y = "{y}" }}\n{BOX}\n{more}\n'


def level(end: str) -> str:
    return f'{{ level = {{ function = "V", at_most = {end} }} }}'


def attracts(start: str, target: str) -> str:
    return f'[[property]]\nid = "a"\nkind = "attracts"\nfrom = {start}\nto = {target}\n'


def barrier(h: str, unsafe: str, initial: str = "x = [-0.1, 0.1], y = [-0.1, 0.1]") -> str:
    return (
        f'[initial]\n{initial.replace(", y", chr(10) + "y")}\n[functions]\nB = {{ expression = "{h}" }}\n'
        f'[[property]]\nid = "b"\nkind = "barrier"\nfunction = "B"\nunsafe = {{ where = ["{unsafe}"] }}\n'
    )


def until(first: str, then: str, initial: str = "x = [0.4, 0.5]\ny = [-0.1, 0.1]") -> str:
    return (
        f'[initial]\n{initial}\n[functions]\nB = {{ expression = "x^2 + y^2 - 1" }}\n[[property]]\nid = "u"\nkind = "until"\n'
        f'function = "B"\nfirst = {{ where = ["{first}"] }}\nthen = {then}\n'
    )


NEAR = "{ box = { x = [-0.2, 0.2], y = [-0.2, 0.2] } }"
FALSE = {  # and where the state must lie: (state, low, high) of what is asked
    # the equilibrium (1, 0) and its mirror image are in {V <= 1.5}, and not in {V <= 0.5}
    "attracts-bistable": (plant("x - x^3", "-y") + V + attracts(level(1.5), level(0.5)), "equilibrium"),
    "attracts-unstable": (plant("x", "-y") + V + attracts(level(1.5), NEAR.replace("-0.2, 0.2] }", "0.1, 0.2] }")), "equilibrium"),
    "attracts-two": (plant("x - x^3", "-y") + V + attracts(level(1.5), '"equilibrium"'), "another"),
    "attracts-map": (plant("x + 0.1*(x - x^3)", "0.5*y", "map") + V + attracts(level(1.5), level(0.5)), "equilibrium"),
    "attracts-parameter": (
        plant("a*x - x^3", "-y", more="parameters = { a = [0.9, 1.1] }") + V + attracts(level(1.5), level(0.5)), "equilibrium"),
    "attracts-disturbed": (
        plant("0.5 + w - x", "-y", more="disturbances = { w = [-0.1, 0.1] }") + V + attracts(level(1.5), level("0.2")), "equilibrium"),
    "barrier-initial": (plant("-x", "-y") + barrier("x^2 + y^2 - 0.01", "x >= 1"), "initial set"),
    "barrier-unsafe": (plant("-x", "-y") + barrier("x^2 + y^2 - 1", "x >= 0.9"), "unsafe set"),
    "barrier-grows": (plant("x", "-y") + barrier("x^2 + y^2 - 1", "x >= 1.5"), "does not decrease"),
    "barrier-disturbed": (
        plant("w - x", "-y", more="disturbances = { w = [-1.2, 1.2] }") + barrier("x^2 + y^2 - 1", "x >= 1.5"), "does not decrease"),
    "barrier-map": (plant("1.1*x", "0.5*y", "map") + barrier("x^2 + y^2 - 1", "x >= 1.5"), "does not decrease"),
    "until-outside": (plant("-x", "-y") + until("x <= 0.45", NEAR), "neither"),
    "until-still": (plant("x - 4*x^3", "-y") + until("x <= 1", NEAR, "x = [0.4, 0.6]\ny = [-0.1, 0.1]"), "equilibrium"),
}  # fmt: skip
TRUE = {
    "attracts": plant("-x", "-y") + V + attracts(level(1.5), level(0.5)),
    "attracts-equilibrium": plant("-x - x^3", "-y") + V + attracts(level(1.5), '"equilibrium"'),
    "attracts-edge": plant("0.5 - x", "-y") + V + attracts(level(1.5), "{ box = { x = [0.5, 1], y = [-1, 1] } }"),
    "attracts-outside": plant("x - x^3", "-y") + V + attracts(level("0.999"), level(0.5)),  # equilibria are just not in `from`
    "barrier": plant("-x", "-y") + barrier("x^2 + y^2 - 0.5", "x >= 0.8"),
    "barrier-touches": plant("-x", "-y") + barrier("x^2 + y^2 - 0.02", "x >= 0.1415"),
    "until": plant("-x", "-y") + until("x <= 1.5", NEAR),
    "until-edge": plant("-x", "-y") + until("x <= 0.5", NEAR),
}  # fmt: skip


def decided(text: str, tmp_path, **options):
    file = tmp_path / "problem.toml"
    file.write_text(text)
    problem = load_problem(file)
    return decide(problem, problem.instances[0], timeout=20, workers=1, **options)


@pytest.mark.parametrize("name", FALSE)
def test_false_claims_are_refuted(name, tmp_path):
    text, said = FALSE[name]
    result = decided(text, tmp_path, certificate=tmp_path / "c.hfc")
    assert result.verdict is Verdict.FALSIFIED, result.detail
    assert isinstance(result.counterexample, Refutation)
    assert said.split()[-1] in result.counterexample.text
    assert result.certificate.missing and not (tmp_path / "c.hfc").exists()


@pytest.mark.parametrize("name", TRUE)
def test_true_claims_are_not(name, tmp_path):
    assert decided(TRUE[name], tmp_path).verdict is not Verdict.FALSIFIED


def test_the_equilibrium_lies_in_its_box(tmp_path):
    found = decided(FALSE["attracts-bistable"][0], tmp_path).counterexample
    (x, y), (u, v) = found.low, found.high
    assert Fraction(x) <= Fraction(1 if x > 0 else -1) <= Fraction(u) and y <= 0 <= v and u - x < 1e-3


def test_the_point_is_what_is_said(tmp_path):
    found = decided(FALSE["barrier-unsafe"][0], tmp_path).counterexample
    x, y = (Fraction(v) for v in found.low)
    assert found.low == found.high and x >= Fraction("0.9") and x * x + y * y <= 1
    found = decided(FALSE["barrier-initial"][0], tmp_path).counterexample
    x, y = (Fraction(v) for v in found.low)
    assert abs(x) <= Fraction("0.1") and abs(y) <= Fraction("0.1") and x * x + y * y > Fraction("0.01")


def test_the_zero_lies_in_its_box(tmp_path):
    found = decided(FALSE["barrier-grows"][0], tmp_path).counterexample
    x, y = (flint.arb(a).union(flint.arb(b)) for a, b in zip(found.low, found.high, strict=True))
    assert (x * x + y * y - 1).contains(0) and 2 * (x * x - y * y) > 0
