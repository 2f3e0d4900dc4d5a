"""Regressions of a soundness review of closed loops: claims that were once proved although false, or crashed.

Where the truth is decidable exactly (linear loops in boxes) it comes from fractions; elsewhere it is argued beside the case.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.invariance.decide import decide
from holdfast.load.problem import load_problem
from holdfast.verdict import Result, Verdict

INVARIANT = '[[property]]\nid = "p"\nkind = "invariant"\nset = {}\n'


def decided(folder: Path, flow: dict[str, str], claim: str, more: str = "", kind: str = "ode") -> Result:
    """The answer about one loop without a controller; ``more``: further lines of [plant], then further tables."""
    key = "next" if kind == "map" else "derivative"
    formulas = ", ".join(f'{name} = "{text}"' for name, text in flow.items())
    states = ", ".join(f'"{name}"' for name in flow)
    text = f'format = "holdfast-problem/1"\ntitle = "t"\n[plant]\nkind = "{kind}"\nstates = [{states}]\n{key} = {{ {formulas} }}\n'
    path = folder / "problem.toml"
    path.write_text(f"{text}{more}\n{claim}")
    problem = load_problem(path)
    return decide(problem, problem.instances[0], timeout=1.0, workers=1)


@pytest.mark.parametrize(
    ("flow", "states"),
    [
        ({"x": "-1/x"}, "{ box = { x = [-1, 1] } }"),  # reaches the pole in finite time
        ({"x": "-x/(x^2 + y^2)", "y": "-y/(x^2 + y^2)"}, "{ box = { x = [-1, 1], y = [-1, 1] } }"),
        ({"x": "tanh(1/x) - 2*x"}, "{ box = { x = [-1, 1] } }"),  # a bound hides the pole
        ({"x": "-tan(2*x) - 4*x"}, "{ box = { x = [-1, 1] } }"),
        (
            {"x": "sqrt(abs(x))"},
            "{ box = { x = [-1, 0] } }",
        ),  # x = t^2/4 leaves: f vanishes on the face, but is not Lipschitz
        ({"x": "acos(1 - abs(x))"}, "{ box = { x = [-1, 0] } }"),
        ({"x": "exp(0.5*log(abs(x))) - 1e-300"}, "{ box = { x = [-1, 0] } }"),
    ],
)
def test_what_is_not_regular_on_the_set_is_not_verified(tmp_path: Path, flow: dict[str, str], states: str) -> None:
    try:
        answer = decided(tmp_path, flow, INVARIANT.format(states))
    except InputError as error:
        assert "on the set" in str(error)
        return
    assert answer.verdict is Verdict.UNKNOWN and "on the set" in answer.detail  # a pole that no float64 number hits


def test_a_function_is_regular_on_the_set(tmp_path: Path) -> None:
    functions = 'domain = { x = [-1, 1] }\n[functions]\nV = { expression = "x^2 + 0.1*tanh(1/x)" }'
    with pytest.raises(InputError, match="must not vanish"):
        decided(tmp_path, {"x": "-x"}, INVARIANT.format('{ level = { function = "V", at_most = 0.5 } }'), functions)


def test_sets_do_not_read_what_is_unknown(tmp_path: Path) -> None:
    # at k = -0.07 the set is |x| <= 0.14, which x' = 0.2 - x leaves; k was read as 0
    more = "parameters = { k = [-0.07, 0.2] }\ndomain = { x = [-1, 1] }"
    with pytest.raises(InputError, match="reads k"):
        decided(tmp_path, {"x": "0.2 - x"}, INVARIANT.format('{ where = ["x^2 <= 0.09 + k"] }'), more)
    functions = more + '\n[functions]\nV = { expression = "x^2 + k*x" }'
    with pytest.raises(InputError, match="reads k"):
        decided(
            tmp_path, {"x": "0.2 - x"}, INVARIANT.format('{ level = { function = "V", at_most = 0.09 } }'), functions
        )
    number = "parameters = { k = 0.2 }\ndomain = { x = [-1, 1] }"
    answer = decided(tmp_path, {"x": "0.2 - x"}, INVARIANT.format('{ where = ["x^2 <= 0.09 + k"] }'), number)
    assert answer.verdict is Verdict.VERIFIED


def test_a_row_of_zeros_is_refused(tmp_path: Path) -> None:
    states = "{ polytope = { H = [[1, 0], [0, 1], [0, 0]], lower = [-1, -1, -1], upper = [1, 1, 1] } }"
    with pytest.raises(InputError, match="zeros"):
        decided(tmp_path, {"x": "-x", "y": "-y"}, INVARIANT.format(states))


@pytest.mark.parametrize("kind", ["ode", "map"])
@pytest.mark.parametrize("shift", ["1e-9", "1e-16", "1e-17", "1e-300"])
def test_thin_violations_are_not_verified(tmp_path: Path, kind: str, shift: str) -> None:
    """At the corner (1, 1) the loop leaves the box by exactly the shift, which float64 sums cannot see."""
    first = "-x + y" if kind == "ode" else "0.25*x + 0.75*y"
    states = INVARIANT.format("{ box = { x = [-1, 1], y = [-1, 1] } }")
    answer = decided(tmp_path, {"x": f"{first} + {shift}", "y": "0.5*x - y"}, states, kind=kind)
    assert answer.verdict is not Verdict.VERIFIED


@pytest.mark.parametrize("kind", ["ode", "map"])
def test_linear_loops_in_boxes(tmp_path: Path, kind: str) -> None:
    """Both answers against the exact one: outflow through a face of a box is largest at a vertex."""
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(12):
        low, high = (-1, 1) if kind == "ode" else (-0.6, 0.6)
        A = [
            [Fraction(round(float(v), 3)).limit_denominator(1000) for v in row]
            for row in rng.uniform(low, high, (2, 2))
        ]
        b = [Fraction(round(float(v), 3)).limit_denominator(1000) for v in rng.uniform(-0.3, 0.3, 2)]
        if kind == "ode":
            A = [[v - (i == j) for j, v in enumerate(row)] for i, row in enumerate(A)]
        beyond = []
        for i in range(2):
            rest = sum((abs(A[i][j]) for j in range(2) if kind == "map" or j != i), Fraction(0)) + abs(b[i])
            beyond.append(rest - 1 if kind == "map" else A[i][i] + rest)
        true = max(beyond) <= 0
        flow = {name: f"({row[0]})*x + ({row[1]})*y + ({c})" for name, row, c in zip("xy", A, b, strict=True)}
        answer = decided(tmp_path, flow, INVARIANT.format("{ box = { x = [-1, 1], y = [-1, 1] } }"), kind=kind)
        assert answer.verdict is not (Verdict.FALSIFIED if true else Verdict.VERIFIED)
        seen.add(answer.verdict)
    assert {Verdict.VERIFIED, Verdict.FALSIFIED} <= seen


def test_two_components_are_kept(tmp_path: Path) -> None:
    flow = {"x": "x - 4*x^3", "y": "-y"}
    functions = 'domain = { x = [-1, 1], y = [-1, 1] }\n[functions]\nV = { expression = "(x^2 - 0.25)^2 + y^2" }'
    level = '{ level = { function = "V", at_most = 0.02 } }'
    assert decided(tmp_path, flow, INVARIANT.format(level), functions).verdict is Verdict.VERIFIED
