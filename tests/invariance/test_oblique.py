"""Conditions in oblique coordinates: regions cover the set and nothing else counts, what is false stays unproved, certificates are checked."""

from __future__ import annotations

import json
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.invariance import attract, axes, plans
from holdfast.invariance.decide import decide
from holdfast.invariance.level_set import Sublevel, boundary, decrease, image, inside, later, step
from holdfast.invariance.oblique import Oblique
from holdfast.invariance.prove import prove
from holdfast.invariance.sets import inequalities
from holdfast.load.formula_graph import compile_formulas
from holdfast.load.problem import load_problem
from holdfast.loop import ClosedLoop, close
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.region import Box
from holdfast.spec.temporal import Level
from holdfast.transforms import evaluate
from holdfast.verdict import Verdict
from holdfast_check.__main__ import main

FLOW = """format = "holdfast-problem/1"
title = "t"
[plant]
kind = "ode"
states = ["x", "y"]
derivative = { x = "-x + x*y^2", y = "-y + y*x^2" }
domain = { x = [-3, 3], y = [-3, 3] }
[functions]
V = { expression = "x^2 + y^2" }
"""
MAP = FLOW.replace('"ode"', '"map"').replace("derivative", "next").replace("-x + x*y^2", "0.5*x + 0.5*x*y^2")
MAP = MAP.replace(
    "-y + y*x^2", "0.5*y + 0.5*y*x^2"
)  # V falls where x^2 y^2 (2 + ...) is small: up to V = 2 on the diagonal
MATRICES = ([[Fraction(1, 2), -1], [1, Fraction(1, 2)]], [[1, 0], [Fraction(1, 3), 1]], [[2, 1], [Fraction(-1, 7), 3]])
BOTTOM = (Fraction(1, 10), Fraction(1, 10))
TURNED = Oblique.of(MATRICES[0])


def loop_of(text: str, folder: Path) -> ClosedLoop:
    (folder / "p.toml").write_text(text)
    return close(load_problem(folder / "p.toml").instances[0].loop)


def sublevel(loop: ClosedLoop, top: str, text: str = "x^2 + y^2") -> Sublevel:
    h = loop.on_states(compile_formulas({"V": text}, loop.data.plant.signals.names))
    return Sublevel(h, (Fraction(top), Fraction(top)), Box.of([-3, -3], [3, 3]), "V")


def level(loop: ClosedLoop, top: str) -> Any:
    return inequalities(Level("V", Fraction(top), None), loop, "the set")


def holds(condition: Condition) -> bool:
    return prove(condition, Budget(10), 1, stop=lambda region, point: point).holds


@pytest.mark.parametrize("Y", MATRICES)
@pytest.mark.parametrize(("top", "true"), [("1.95", True), ("2.001", False)])
def test_decrease(tmp_path: Path, Y: Any, top: str, true: bool) -> None:
    """V' = -2 V + 4 x^2 y^2 is negative exactly where V < 2 on the diagonal."""
    loop = loop_of(FLOW, tmp_path)
    assert holds(decrease(loop, sublevel(loop, top), BOTTOM, Oblique.of(Y))) == true


@pytest.mark.parametrize(("top", "true"), [("1.95", True), ("2.001", False)])
def test_other_conditions_of_flows(tmp_path: Path, top: str, true: bool) -> None:
    loop = loop_of(FLOW, tmp_path)
    kept = [sublevel(loop, top)]
    assert holds(later(loop, kept, sublevel(loop, "0.1", "x^2 + 1.001*y^2"), TURNED)) == true
    assert all(map(holds, boundary(loop, level(loop, top), "", TURNED))) == true


@pytest.mark.parametrize(("top", "true"), [("1.95", True), ("2.001", False)])
def test_conditions_of_maps(tmp_path: Path, top: str, true: bool) -> None:
    loop = loop_of(MAP, tmp_path)
    assert holds(step(loop, sublevel(loop, top), BOTTOM, TURNED)) == true
    assert holds(image(loop, level(loop, top), "", TURNED)) == true


@pytest.mark.parametrize(("top", "true"), [("0.99", True), ("1.01", False)])
def test_inside(tmp_path: Path, top: str, true: bool) -> None:
    loop = loop_of(FLOW, tmp_path)
    assert holds(inside(loop, [sublevel(loop, top)], Box.of([-3, -3], [3, 3]), level(loop, "1"), TURNED)) == true


def test_outside_of_the_domain_nothing_counts(tmp_path: Path) -> None:
    """The hull of the images holds points that violate the condition, which the domain leaves out."""
    loop = loop_of(FLOW, tmp_path)
    s = sublevel(loop, "50")
    for end, true in ((Fraction(99, 100), True), (Fraction(101, 100), False)):
        square = Sublevel(s.h, s.top, Box.of([-end, -end], [end, end]), "V")
        assert holds(decrease(loop, square, BOTTOM, TURNED)) == true


def test_a_region_has_the_images_of_all_points() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 5):
        Y = [[Fraction(int(v), 16) for v in line] for line in rng.integers(-30, 30, (n, n))]
        Y[0] = [Fraction(j == 0) for j in range(n)]
        seen = Oblique.of(Y)
        low = [Fraction(int(v), 7) for v in rng.integers(-20, 20, n)]
        box = Box.of(low, [a + Fraction(int(w), 7) for a, w in zip(low, rng.integers(0, 9, n), strict=True)])
        hull, rows = seen.hull(box), seen.rows(box, 0, "abcde")
        assert 0 not in seen.skew and len(rows) == 2 * len(seen.skew)
        for share in [*np.ndindex(*(2,) * n), *rng.random((20, n)).tolist(), *(3 * rng.random((20, n)) - 1).tolist()]:
            x = [
                box.exact_lower(i) + Fraction(float(s)) * (box.exact_upper(i) - box.exact_lower(i))
                for i, s in enumerate(share)
            ]
            y = [sum(a * v for a, v in zip(line, x, strict=True)) for line in Y]
            assert x == [sum(a * v for a, v in zip(line, y, strict=True)) for line in seen.inverse]
            met = all(hull.exact_lower(k) <= v <= hull.exact_upper(k) for k, v in enumerate(y))
            met = met and all(sum(c * x[i] for i, c in r.terms) + r.constant <= 0 for r in rows)
            assert met == box.contains(x)


def test_features_are_those_of_the_states(tmp_path: Path) -> None:
    """Boxes of a few units around images contain the same values."""
    loop = loop_of(FLOW, tmp_path)
    s = sublevel(loop, "1")
    plain, seen = decrease(loop, s, BOTTOM), decrease(loop, s, BOTTOM, TURNED)
    x = np.array([[0.5, -1.25], [2.0, 0.75], [0.0, 0.0]])
    y = x @ np.array(MATRICES[0], np.float64).T
    values = [
        evaluate(c.features.graph, c.features.parameters, [v])[c.features.graph.outputs[0]]
        for c, v in ((plain, x), (seen, y))
    ]
    assert np.abs(values[1][:, :2] - values[0]).max() < 1e-12 and np.abs(TURNED.states(y) - x).max() < 1e-12


@pytest.mark.parametrize("Y", [[[1, 2], [2, 4]], [[1, 0]], [[1, 0, 0], [0, 1, 0]]])
def test_a_matrix_without_inverse_is_refused(Y: Any) -> None:
    with pytest.raises(InputError):
        Oblique.of([[Fraction(v) for v in line] for line in Y])


CLAIMS = {
    "attracts": (FLOW, 'kind = "attracts"\nfrom = { level = { function = "V", at_most = 1.9 } }\nto = { level = { function = "V", at_most = 0.1 } }'),
    "attracts of a map": (MAP, 'kind = "attracts"\nfrom = { level = { function = "V", at_most = 1.9 } }\nto = { level = { function = "V", at_most = 0.1 } }'),
    "boundary": (FLOW, 'kind = "invariant"\nset = { level = { function = "V", at_most = 1.9 } }'),
    "ellipsoid": (FLOW, 'kind = "invariant"\nset = { ellipsoid = { center = [0, 0], P = [[1, 0.1], [0.1, 1]], level = 1.5 } }'),
    "image": (MAP, 'kind = "invariant"\nset = { level = { function = "V", at_most = 1.9 } }'),
}  # fmt: skip


def certified(name: str, folder: Path, patch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    for module in (attract, plans):
        patch.setattr(module, "for_band", lambda *_: TURNED)
    text, claim = CLAIMS[name]
    problem, certificate = folder / "p.toml", folder / "c.hfc"
    problem.write_text(f'{text}[[property]]\nid = "p"\n{claim}\n')
    loaded = load_problem(problem)
    result = decide(loaded, loaded.instances[0], timeout=60, workers=1, certificate=certificate)
    assert result.verdict is Verdict.VERIFIED
    return problem, certificate


def with_matrix(certificate: Path, matrix: Any) -> Path:
    """The same certificate with another matrix."""
    changed = certificate.with_name("changed.hfc")
    with zipfile.ZipFile(certificate) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.infolist():
            data = old.read(member)
            if member.filename == "header.json":
                header = json.loads(data)
                (proof,) = header["proofs"]
                place = proof["stages"][0] if "stages" in proof else proof
                assert place["coordinates"] == TURNED.text
                place["coordinates"] = matrix
                data = json.dumps(header).encode()
            new.writestr(member, data)
    return changed


@pytest.mark.parametrize("name", CLAIMS)
def test_certificates_are_checked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, certificate = certified(name, tmp_path, monkeypatch)
    assert main([str(problem), str(certificate)]) == 0
    for matrix in ([["1", "2"], ["2", "4"]], [["0", "0"], ["0", "0"]], [["1", "2"]], [["1", "x"], ["0", "1"]]):
        assert main([str(problem), str(with_matrix(certificate, matrix))]) == 1


def test_a_false_claim_is_refused_whatever_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, certificate = certified("attracts", tmp_path, monkeypatch)
    text = problem.read_text()
    problem.write_text(text.replace("at_most = 1.9", "at_most = 2.1"))
    import hashlib

    for matrix in (TURNED.text, [["1", "0"], ["0", "1"]], [["1/1000000", "1"], ["1", "0"]]):
        changed = with_matrix(certificate, matrix)
        forged = changed.with_name("forged.hfc")
        with zipfile.ZipFile(changed) as old, zipfile.ZipFile(forged, "w") as new:
            for member in old.infolist():
                data = old.read(member)
                if member.filename == "header.json":
                    header = json.loads(data)
                    header["problem"] = hashlib.sha256(problem.read_bytes()).hexdigest()
                    data = json.dumps(header).encode()
                new.writestr(member, data)
        assert main([str(problem), str(forged), "--timeout", "5"]) in (1, 3)


THREE = """format = "holdfast-problem/1"
title = "a switch that is oblique to the axes"
[plant]
kind = "ode"
states = ["x", "y", "z"]
derivative = { x = "-x - 0.5*tanh(100*(x + 2*y - z))", y = "-y - tanh(100*(x + 2*y - z))", z = "-z + 0.5*tanh(100*(x + 2*y - z))" }
domain = { x = [-1, 1], y = [-1, 1], z = [-1, 1] }
[functions]
V = { expression = "x^2 + y^2 + z^2" }
[[property]]
id = "p"
kind = "attracts"
from = { level = { function = "V", at_most = 0.5 } }
to = { level = { function = "V", at_most = 0.03 } }
"""


def test_a_trial_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is chosen, the proof holds; an easy condition is left in the states."""
    (tmp_path / "p.toml").write_text(THREE)
    loaded = load_problem(tmp_path / "p.toml")
    monkeypatch.setattr(axes, "EASY", 0)
    monkeypatch.setattr(axes, "CLEARLY", 1e9)  # the best one, unless it is that of the states
    certificate = tmp_path / "c.hfc"
    result = decide(loaded, loaded.instances[0], timeout=100, workers=1, certificate=certificate)
    assert result.verdict is Verdict.VERIFIED
    assert main([str(tmp_path / "p.toml"), str(certificate)]) == 0
