"""The first look: proofs and a counterexample on the project's own networks, in plain words, and a picture.

Runs the `holdfast` command as a user would; ends with status 1 if an answer is not the expected one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-output"
QUESTIONS = (
    (
        "examples/digits/digits.onnx",
        "examples/digits/robust_3_060.vnnlib",
        "Can a handwritten 9 be changed by at most 0.06 per pixel so that the network reads another digit?",
        "unsat",
        "No: proved for every one of the infinitely many images in that box.",
    ),
    (
        "examples/digits/digits.onnx",
        "examples/digits/robust_0_060.vnnlib",
        "The same question about a handwritten 2.",
        "sat",
        "Yes: the image of the witness above (drawn in the picture) is read as another digit; onnxruntime was asked, and agrees.",
    ),
    (
        "examples/pendulum/pendulum.onnx",
        "examples/pendulum/sign.vnnlib",
        "Leaning to one side and not returning: does the pendulum's controller always push back?",
        "unsat",
        "Yes: no state in that region gets a torque of the wrong sign.",
    ),
)


def ask(network: str, prop: str) -> tuple[str, list[str]]:
    """The first line that `holdfast verify` answers, and the lines after it."""
    command = [sys.executable, "-m", "holdfast", "verify", network, prop, "--timeout", "60"]
    print(f"  $ holdfast {' '.join(command[3:])}", flush=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if not lines:
        raise SystemExit(f"  no answer (exit status {done.returncode}): {done.stderr.strip()}")
    return lines[0], lines[1:]


def shortened(lines: list[str], most: int = 12) -> list[str]:
    """The explanation in full, a long witness by its first and last lines."""
    return lines if len(lines) <= most else [*lines[: most // 3], "...", *lines[-2 * most // 3 :]]


def main() -> int:
    """Asks every question, draws the picture, says what happened."""
    wrong = 0
    for network, prop, question, expected, meaning in QUESTIONS:
        print(f"\n{question}")
        verdict, rest = ask(network, prop)
        for line in [verdict, *shortened(rest)]:
            print(f"    {line}")
        if verdict == expected:
            print(f"  {meaning}")
        else:
            wrong += 1
            print(f"  This answer was not expected (expected {expected}).")
    OUT.mkdir(exist_ok=True)
    for name in ("digits", "pendulum"):
        picture = OUT / f"{name}.png"
        subprocess.run(
            [sys.executable, str(ROOT / "examples" / name / "picture.py"), str(picture)], check=True, cwd=ROOT
        )
        print(f"\nPicture: {picture.relative_to(ROOT)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
