"""Damaged property files: a Property or one sentence, in bounded time, never another exception."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.errors import InputError
from holdfast.load.vnnlib import load_property, parse_property

SEED_1 = """(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (<= X_0 0.5)) (assert (>= X_0 -1e-3)) ; bounds
(assert (and (<= X_1 1) (>= X_1 0)))
(assert (or (and (<= Y_0 Y_1) (>= X_0 0)) (not (< (* 2 Y_0 Y_1) (- X_0 3))) (= (+ Y_0 1) (/ Y_1 2))))
"""
SEED_2 = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [2]))
(declare-network g (equal-to f) (declare-input U float32 [1,2]) (declare-output V float32 [2]))
(assert (and (<= X[0,0] 1.0) (>= X[0,0] 0.0) (<= X[0,1] 1e-2) (>= X[0,1] -1.0)))
(assert (and (== U[0,0] X[0,0]) (== U[0,1] X[0,1])))
(assert (or (> (* 2.0 Y[0] V[1]) 0.5) (and (!= Y[0] V[0]) (<= (- Y[1] 1.0) (+ X[0,0] V[1])))))
"""
PIECES = re.compile(r"[()\[\],;]|[^\s()\[\],;]+|\s+")
VOCABULARY = """( ) ( ) [ ] , ; assert declare-const declare-fun declare-network declare-input declare-output declare-hidden
    equal-to isomorphic-to and or not <= >= < > = == != + - * / X_0 X_1 X_2 Y_0 Y_1 Z X Y U f g Real real float32 float64
    Int X[0,0] Y[0] 0 1 -1 0.1 1e-5 1e999 1e99999999 -0 nan inf 0x10 1/3 .5 5. 1.5.2 <2.0> <9.9> vnnlib-version
    " "a" \0 \ufeff ² ١"""
WORDS = st.sampled_from(VOCABULARY.split())
SPAN = st.tuples(
    st.sampled_from(["delete", "double", "swap", "insert", "replace", "cut"]), st.integers(0, 10**6), WORDS
)


def damaged(text: str, edits: list[tuple[str, int, str]]) -> str:
    pieces = PIECES.findall(text)
    for kind, place, word in edits:
        i = place % max(1, len(pieces))
        if kind == "delete":
            del pieces[i : i + 1 + place % 5]
        elif kind == "double":
            pieces[i:i] = pieces[i : i + 1 + place % 30]
        elif kind == "swap" and pieces:
            j = (place // 7) % len(pieces)
            pieces[i], pieces[j] = pieces[j], pieces[i]
        elif kind == "insert":
            pieces.insert(i, word)
        elif kind == "replace":
            pieces[i : i + 1] = [word]
        elif kind == "cut":
            del pieces[i:]
    return "".join(pieces)


def check(text: str, seconds: float = 2.0) -> None:
    start = time.perf_counter()
    try:
        parse_property(text, "p")
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    assert time.perf_counter() - start < seconds


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([SEED_1, SEED_2]), st.lists(SPAN, max_size=6))
def test_damaged_texts(text: str, edits: list[tuple[str, int, str]]) -> None:
    check(damaged(text, edits))


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=40), st.booleans())
def test_word_salad(words: list[str], second: bool) -> None:
    check(("(vnnlib-version <2.0>) " if second else "") + " ".join(words))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(text)
    check("(vnnlib-version <2.0>)" + text)


TRAPS = {
    "open parentheses": "(" * 200_000,
    "closing parentheses": ")" * 200_000,
    "open brackets": "(vnnlib-version <2.0>)" + "[" * 200_000,
    "open names": "(vnnlib-version <2.0>)" + "(declare-input X real [" * 20_000,
    "blanks": "(vnnlib-version" + " " * 200_000,
    "blanks behind a parenthesis": "( " + " " * 200_000 + "<",
    "one long word": "a" * 1_000_000,
    "one long number": SEED_1 + "(assert (<= Y_0 " + "9" * 500_000 + "))",
    "comments": ";" * 500_000,
    "powers": SEED_1 + "(assert (<= " + "(* (+ X_0 X_1 Y_0 Y_1 1) " * 100 + "1" + ")" * 100 + " 0))",
    "large products": SEED_1 + "(assert (<= (* " + "(+ X_0 X_1 Y_0 Y_1 1) " * 15 + ") 0))",
    "huge constants": SEED_1 + "(assert (<= (* " + "1e900 " * 3000 + "Y_0) 0))",
    "nested or": SEED_1 + "(assert " + "(or (<= Y_0 1) (and (<= Y_1 1) " * 900 + "(<= Y_0 0)" + "))" * 900 + ")",
}


@pytest.mark.parametrize("text", TRAPS.values(), ids=TRAPS)
def test_traps_end_soon(text: str) -> None:
    check(text, seconds=20)


@pytest.mark.skipif(not os.environ.get("HOLDFAST_BENCHMARKS"), reason="HOLDFAST_BENCHMARKS is not set")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(100, 4000), st.lists(SPAN, max_size=4))
def test_damaged_published_files(tmp_path: Path, which: int, size: int, edits: list[tuple[str, int, str]]) -> None:
    import gzip

    folder = Path(os.environ["HOLDFAST_BENCHMARKS"], "vnncomp")
    files = [p for p in sorted(folder.glob("*/vnnlib/*.vnnlib.gz")) if p.stat().st_size < 20_000]
    with gzip.open(files[which % len(files)], "rt") as stream:
        text = stream.read(size)
    path = tmp_path / "p.vnnlib"
    path.write_text(damaged(text, edits), encoding="utf-8")
    try:
        load_property(path)
    except InputError as error:
        assert "\n" not in str(error)
