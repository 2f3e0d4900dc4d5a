"""The program starts at once, with nothing heavy loaded, and answers for itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

import holdfast

HEAVY = {"numpy", "jax", "onnx", "onnxruntime", "scipy", "rich", "matplotlib", "vnnlib", "multiprocessing"}


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [["--help"], ["verify", "--help"], ["bench", "--help"], ["--version"]])
def test_nothing_heavy_is_loaded_to_start(words: list[str]) -> None:
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
sys.argv[0] = "holdfast"
from holdfast.cli.main import main
try:
    main()
finally:
    print(sorted(set(sys.modules) & {HEAVY!r}), file=sys.stderr)
"""
    ended = python(code, *words)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "[]\n"


def test_module_and_usage_errors() -> None:
    code = f"import sys, runpy; sys.path[:0] = {sys.path!r}; runpy.run_module('holdfast', run_name='__main__')"
    assert python(code, "--version").stdout.strip() == holdfast.__version__
    assert python(code, "--name").stdout == "holdfast\n"
    wrong = python(code, "verify", "--no-such-option", "a", "b")
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert "Traceback" not in wrong.stderr
    assert python(code).returncode == 2  # no verb
