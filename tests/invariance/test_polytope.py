"""Faces of boxes and polytopes: conditions say what they should, proofs hold, false claims are not proved."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import InputError
from holdfast.invariance.frames import frame_of, frames
from holdfast.invariance.polytope import as_polytope, face_conditions, image_condition, sides_of
from holdfast.invariance.prove import prove
from holdfast.load.problem import load_problem
from holdfast.loop import ClosedLoop, close
from holdfast.search.budget import Budget
from holdfast.spec.temporal import BoxSet, Polytope
from holdfast.transforms import evaluate

HEAD = 'format = "holdfast-problem/1"\n[plant]\nkind = "{kind}"\nstates = [{states}]\n'


def loop_of(folder: Path, kind: str, formulas: dict[str, str], more: str = "") -> ClosedLoop:
    """A plant without controller, from formulas."""
    states = ", ".join(f'"{name}"' for name in formulas)
    key = "derivative" if kind == "ode" else "next"
    body = ", ".join(f'{name} = "{text}"' for name, text in formulas.items())
    path = folder / "problem.toml"
    path.write_text(HEAD.format(kind=kind, states=states) + more + f"{key} = {{ {body} }}\n")
    return close(load_problem(path).instances[0].loop)


def polytope(H: list[list[float]], ends: list[float], center: list[float] | None = None) -> Polytope:
    """|H_k (x - center)| <= ends_k."""
    rows = tuple(tuple(Fraction(str(v)) for v in row) for row in H)
    high = tuple(Fraction(str(v)) for v in ends)
    middle = tuple(Fraction(str(v)) for v in center or [0.0] * len(H[0]))
    return Polytope(rows, tuple(-v for v in high), high, middle)


def proved(loop: ClosedLoop, states: Polytope) -> bool:
    """Whether all faces are, within a few seconds."""
    conditions = (
        face_conditions(loop, states, "set")[0] if loop.kind == "ode" else [image_condition(loop, states, "set")[0]]
    )
    budget = Budget(2.0)
    return all(prove(condition, budget, 1).holds for condition in conditions)


CHAIN = {"a": "-a + 0.1*sin(b)", "b": "-2*b + 0.1*c^2", "c": "-c + 0.2*a", "d": "-d", "e": "-e + 0.5*d"}


def test_frames_are_exact_and_have_their_row() -> None:
    """H_k (x - center) and x are what the forms say, in rationals, for random polytopes with more rows than states."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        n, m = 4, 7
        H = [[Fraction(int(v), 8) for v in row] for row in rng.integers(-9, 10, size=(m, n))]
        if np.linalg.matrix_rank([[float(v) for v in row] for row in H]) < n:
            continue
        ends = tuple(Fraction(int(v)) for v in rng.integers(1, 6, size=m))
        states = Polytope(tuple(map(tuple, H)), tuple(-e for e in ends), ends, (Fraction(0),) * n)
        for k, frame in enumerate(frames(states, range(m))):
            assert k in frame.rows and len(set(frame.rows)) == n
            x = [Fraction(int(v)) for v in rng.integers(-20, 20, size=n)]
            values = {j: sum((a * b for a, b in zip(H[j], x, strict=True)), Fraction(0)) for j in range(m)}
            y = {j: values[j] for j in frame.rows}
            assert [sum((c * y[j] for j, c in form.items()), Fraction(0)) for form in frame.states] == x
            for j, form in frame.others.items():
                assert sum((c * y[i] for i, c in form.items()), Fraction(0)) == values[j]


def test_dependent_rows_are_refused() -> None:
    """One sentence."""
    with pytest.raises(InputError, match="linearly dependent"):
        frame_of(polytope([[1, 1], [2, 2], [0, 1]], [1, 1, 1]), [0, 1])


def test_features_are_the_flow_through_the_face(tmp_path: Path) -> None:
    """Rows of conditions against the flow evaluated directly, at random points of the faces."""
    loop = loop_of(tmp_path, "ode", CHAIN)
    H = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 0]]
    states = polytope(H, [1, 1, 1, 1, 1, 1.5], [0.1, 0, 0, 0, 0.2])
    conditions, bases = face_conditions(loop, states, "set")
    faces = sides_of(states)
    assert sum(len(c.regions) for c in conditions) == len(faces) == len(bases)
    regions = [(c, i) for c in conditions for i in range(len(c.regions))]
    rng = np.random.default_rng(0)
    matrix = np.array(H, float)
    center = np.array([float(c) for c in states.center])
    for face, rows, (condition, i) in zip(faces, bases, regions, strict=True):
        box = condition.regions[i].box
        y = box.lower + (box.upper - box.lower) * rng.random((50, 5))
        x = center + y @ np.linalg.inv(matrix[rows]).T
        f = evaluate(loop.dynamics.graph, loop.dynamics.parameters, [x])[loop.dynamics.graph.outputs[0]]
        query = condition.query()
        values = evaluate(query.graph, query.parameters, [y])[query.graph.outputs[0]]
        out = values[:, condition.regions[i].cases[0][-1]]
        sign = -1 if face.upper else 1
        assert np.allclose(out, sign * f @ matrix[face.k], atol=1e-12)
        assert (
            box.lower[rows.index(face.k)]
            == box.upper[rows.index(face.k)]
            == (1 if face.upper else -1) * float(states.upper[face.k] or 0)
        )


def test_what_a_face_does_not_depend_on_stays_at_its_middle(tmp_path: Path) -> None:
    """d' = -d needs one coordinate; a' needs a and b."""
    loop = loop_of(tmp_path, "ode", CHAIN)
    box = as_polytope(BoxSet({i: (Fraction(-1), Fraction(3)) for i in range(5)}), loop, "set")
    conditions, bases = face_conditions(loop, box, "set")
    regions = [r for c in conditions for r in c.regions]
    varying = [sorted(bases[k][j] for j in np.flatnonzero(r.box.upper > r.box.lower)) for k, r in enumerate(regions)]
    assert varying[:5] == [[1], [2], [0], [], [3]]
    assert regions[3].box.lower.tolist().count(1.0) == 4


def test_true_and_false_claims(tmp_path: Path) -> None:
    """A box that is kept; the same for a system that leaves it; redundant rows cut corners that leave."""
    square = [[1, 0], [0, 1]]
    assert proved(loop_of(tmp_path, "ode", {"x": "-x + 0.5*y", "y": "-y"}), polytope(square, [1, 1]))
    assert not proved(loop_of(tmp_path, "ode", {"x": "-x + 1.5*y", "y": "-y"}), polytope(square, [1, 1]))
    swing = loop_of(tmp_path, "ode", {"x": "y", "y": "-2*x - 3*y"})
    assert not proved(swing, polytope(square, [1, 1]))
    assert proved(swing, polytope([[2, 1], [1, 1]], [1, 1]))  # along its eigenvectors


def test_disturbances_count(tmp_path: Path) -> None:
    """x' = -x + w stays in |x| <= 1 for |w| < 1, not for more."""
    for size, holds in (("0.99", True), ("1.01", False)):
        more = f"disturbances = {{ w = [-{size}, {size}] }}\n"
        assert proved(loop_of(tmp_path, "ode", {"x": "-x + w"}, more), polytope([[1]], [1])) is holds


def test_maps(tmp_path: Path) -> None:
    """Images, also of a polytope with more rows than states."""
    assert proved(loop_of(tmp_path, "map", {"x": "0.5*x + 0.4*y", "y": "0.9*y"}), polytope([[1, 0], [0, 1]], [1, 1]))
    assert not proved(
        loop_of(tmp_path, "map", {"x": "0.5*x + 0.6*y", "y": "0.9*y"}), polytope([[1, 0], [0, 1]], [1, 1])
    )
    hexagon = polytope([[1, 0], [0, 1], [1, 1]], [1, 1, 1])
    assert proved(loop_of(tmp_path, "map", {"x": "0.9*x + 0.9*y", "y": "-0.5*x - 0.5*y"}), hexagon)
    assert not proved(
        loop_of(tmp_path, "map", {"x": "0.9*x + 0.9*y", "y": "-0.5*x - 0.5*y"}), polytope([[1, 0], [0, 1]], [1, 1])
    )


def test_a_simplex_with_open_rows(tmp_path: Path) -> None:
    """Rows with one end only: n of them must have two, or the face is its own."""
    loop = loop_of(tmp_path, "ode", {"x": "-x", "y": "-y"})
    H = tuple(tuple(Fraction(v) for v in row) for row in ((1, 0), (0, 1), (1, 1)))
    states = Polytope(
        H, (Fraction(-1), Fraction(-1), None), (Fraction(1), Fraction(1), Fraction(1)), (Fraction(0),) * 2
    )
    assert proved(loop, states)
