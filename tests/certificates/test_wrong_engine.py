"""A search with a bug planted in it "proves" what is false; the checker refuses every one of these certificates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from questions import VERIFY, asked, certify, check

from holdfast.bounds import backward, propagate
from holdfast.operators.piecewise import Relu
from holdfast.operators.sigmoidal import Sigmoid
from holdfast.search import input_split, neuron_step
from holdfast.search.replay import Replay
from holdfast.verdict import Verdict

Plant = Callable[[pytest.MonkeyPatch], None]


def low_chord(patch: pytest.MonkeyPatch) -> None:
    """The chord above a ReLU is put too low."""
    right = Relu.relax

    def wrong(self: Any, *arguments: Any, **options: Any) -> Any:
        lines = right(self, *arguments, **options)
        return lines._replace(upper_shift=lines.upper_shift * 0.1)

    patch.setattr(Relu, "relax", wrong)


def high_line(patch: pytest.MonkeyPatch) -> None:
    """The line below a ReLU is put above it."""
    right = Relu.relax

    def wrong(self: Any, *arguments: Any, **options: Any) -> Any:
        lines = right(self, *arguments, **options)
        return lines._replace(lower_shift=lines.lower_shift + 0.6)

    patch.setattr(Relu, "relax", wrong)


def sigmoid_between(patch: pytest.MonkeyPatch) -> None:
    """The lines of a sigmoid are moved towards each other."""
    right = Sigmoid.relax

    def wrong(self: Any, *arguments: Any, **options: Any) -> Any:
        lines = right(self, *arguments, **options)
        return lines._replace(lower_shift=lines.lower_shift + 0.15, upper_shift=lines.upper_shift - 0.15)

    patch.setattr(Sigmoid, "relax", wrong)


def wrong_end(patch: pytest.MonkeyPatch) -> None:
    """Linear bounds are taken at their greatest instead of their least."""
    right = backward.concretise

    def wrong(state: Any, bound: Any) -> Any:
        most = -right(state, backward.LinearBound(-bound.coefficients, -bound.constant))
        return most - 1e-9 * abs(most)

    patch.setattr(input_split, "concretise", wrong)


def narrow_ranges(patch: pytest.MonkeyPatch) -> None:
    """Narrowed ranges of pre-activations are too narrow."""
    right = propagate.refine_rows

    def wrong(*arguments: Any) -> Any:
        below, above, slopes = right(*arguments)
        middle, half = 0.5 * (below + above), 0.05 * (above - below)
        return middle - half, middle + half, slopes

    patch.setattr(propagate, "refine_rows", wrong)


def lost_children(patch: pytest.MonkeyPatch) -> None:
    """The lower part of a split box is forgotten."""
    right = input_split.InputSplit._split

    def wrong(self: Any, *arguments: Any) -> Any:
        step = right(self, *arguments)
        return step._replace(children=step.children.take(np.flatnonzero(step.children.node & 1 == 1)))

    patch.setattr(input_split.InputSplit, "_split", wrong)


def greedy_clipping(patch: pytest.MonkeyPatch) -> None:
    """Boxes are clipped by more than the constraints say."""
    right = input_split.clip

    def wrong(a: Any, c: Any, low: Any, high: Any, slack: float = 0.0) -> Any:
        return right(a, c + 0.8, low, high, slack)

    patch.setattr(input_split, "clip", wrong)


def forgotten_case(patch: pytest.MonkeyPatch) -> None:
    """The search forgets one way to be a counterexample."""
    right = VERIFY.bind

    def wrong(*arguments: Any) -> Any:
        from dataclasses import replace

        query = right(*arguments)
        return replace(query, regions=tuple(replace(r, cases=r.cases[1:]) for r in query.regions))

    patch.setattr(VERIFY, "bind", wrong)


def shifted_bias(patch: pytest.MonkeyPatch) -> None:
    """The loader reads a bias wrongly (and its self-check is off)."""
    import questions

    right = questions.load_model

    def wrong(path: Path) -> Any:
        model = right(path)
        parameters = {k: v + 0.7 if v.shape == (2,) else v for k, v in model.parameters.items()}
        from dataclasses import replace

        return replace(model, parameters=parameters)

    patch.setattr(questions, "load_model", wrong)


def optimistic_optimiser(patch: pytest.MonkeyPatch) -> None:
    """Bounds of neuron splitting are reported higher than they are."""
    right = neuron_step.optimise

    def wrong(*arguments: Any, **options: Any) -> Any:
        best = right(*arguments, **options)
        best.value = best.value + 0.4
        return best

    patch.setattr(neuron_step, "optimise", wrong)


BUGS: list[tuple[Plant, dict]] = [
    (low_chord, {}),
    (low_chord, dict(neurons=True)),
    (high_line, {}),
    (high_line, dict(neurons=True)),
    (sigmoid_between, dict(activation="Sigmoid")),
    (sigmoid_between, dict(activation="Sigmoid", neurons=True)),
    (wrong_end, {}),
    (narrow_ranges, {}),
    (lost_children, {}),
    (greedy_clipping, {}),
    (forgotten_case, {}),
    (forgotten_case, dict(neurons=True)),
    (shifted_bias, {}),
    (shifted_bias, dict(neurons=True)),
    (optimistic_optimiser, dict(neurons=True)),
]


@pytest.mark.parametrize(
    ("plant", "options"), BUGS, ids=lambda x: x.__name__ if callable(x) else "-".join(x) or "boxes"
)
def test_the_checker_refuses_what_a_broken_search_proves(
    plant: Plant, options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(options)
    about = asked(tmp_path, neurons=options.get("neurons", False), activation=options.pop("activation", "Relu"))
    honest = certify(about.network, about.false, tmp_path / "honest.hfc", **options)
    assert honest.verdict is Verdict.FALSIFIED
    with monkeypatch.context() as patch:
        plant(patch)
        patch.setattr(Replay, "confirm", lambda *arguments: None)  # it would show that the claim is false
        wrong = certify(about.network, about.false, tmp_path / "wrong.hfc", attack=False, **options)
    assert wrong.verdict is Verdict.VERIFIED, "the planted bug has no effect"
    assert wrong.certificate is not None and not wrong.certificate.missing
    status, said = check(about.network, about.false, tmp_path / "wrong.hfc")
    assert status == 1 and said.startswith("invalid: "), said
    assert len(said) < 600
