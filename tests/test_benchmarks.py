"""A few quick instances of public benchmarks: the whole way from two files to a verdict, against what is known.

Needs the benchmark folder named by HOLDFAST_BENCHMARKS; skipped where it is absent.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import holdfast
from holdfast.cli.instances import Instance, read_expected, read_instances

FOLDER = Path(os.environ.get("HOLDFAST_BENCHMARKS", "")) / "vnncomp"
pytestmark = pytest.mark.skipif(
    "HOLDFAST_BENCHMARKS" not in os.environ or not FOLDER.is_dir(),
    reason="HOLDFAST_BENCHMARKS does not name a folder with vnncomp/",
)

QUICK = {
    "acasxu": (
        ("1_2", "prop_3"),
        ("1_7", "prop_3"),
        ("4_5", "prop_3"),
        ("5_1", "prop_3"),
        ("1_8", "prop_4"),
        ("2_4", "prop_4"),
        ("3_5", "prop_4"),
        ("1_1", "prop_2"),
        ("1_2", "prop_2"),
        ("2_1", "prop_2"),
        ("5_8", "prop_2"),
        ("1_1", "prop_1"),
    ),
    "rl_benchmarks": (
        ("cartpole", "unsafe_36"),
        ("cartpole", "safe_49"),
        ("lunarlander", "safe_9"),
        ("lunarlander", "unsafe_82"),
        ("dubinsrejoin", "unsafe_66"),
    ),
    "linearizenn": (("10_10", "prop_10_10."), ("10_10", "prop_10_10_0")),
    "collins_rul_cnn": (("small_window_20", "2perturbations_delta5_"), ("small_window_20", "if_then_5levels")),
    "mnist_fc": (("256x2", "prop_3_0.03"), ("256x2", "prop_12_0.05")),
}


def find(folder: str, network: str, prop: str) -> Instance:
    """The first instance whose file names contain both texts."""
    return next(i for i in read_instances(FOLDER / folder) if network in i.onnx and prop in i.vnnlib)


@pytest.mark.parametrize(
    ("folder", "network", "prop"),
    [(folder, *pair) for folder, pairs in QUICK.items() for pair in pairs],
)
def test_known_verdict(folder: str, network: str, prop: str) -> None:
    instance = find(folder, network, prop)
    known = read_expected(FOLDER / folder)[instance.key]
    assert known in ("sat", "unsat")
    result = holdfast.verify(instance.network, instance.prop, timeout=instance.timeout, workers=1)
    assert result.verdict.vnnlib == known
    assert (result.counterexample is not None) == (known == "sat")


@pytest.mark.parametrize(("network", "prop"), [("4_5", "prop_3"), ("1_7", "prop_3")])
def test_float32_semantics(network: str, prop: str) -> None:
    """What is proved for all executions agrees with what is known."""
    instance = find("acasxu", network, prop)
    known = read_expected(FOLDER / "acasxu")[instance.key]
    result = holdfast.verify(instance.network, instance.prop, timeout=60, workers=1, semantics="float32")
    assert result.semantics == "float32" and result.verdict.vnnlib == known
