"""The first look: train a controller, certify the states it never leaves, find a set, check the proof, refute a claim; pictures.

Runs the `holdfast` commands as a user would, into demo-output/; ends with status 1 if an answer is not the expected one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-output"
BALANCE, EXAMPLE = OUT / "balance", ROOT / "examples" / "balance"
DIGITS = ("examples/digits/digits.onnx", "examples/digits/robust_3_060.vnnlib", "examples/digits/robust_0_060.vnnlib")


def say(text: str) -> None:
    """A paragraph of plain words. No colours, no cursor: any terminal, or a file, will do."""
    print(f"\n{text}", flush=True)


def shown(path: Path) -> str:
    """As a user in the repository would write it."""
    return str(path.relative_to(ROOT))


def shortened(lines: list[str], most: int = 12) -> list[str]:
    """The explanation in full, a long witness by its first and last lines."""
    return lines if len(lines) <= most else [*lines[: most // 3], "...", *lines[-2 * most // 3 :]]


def run(module: str, *arguments: str) -> tuple[str, bool]:
    """Runs a command, shows it and what it answers. The first line of the answer, and whether there was one."""
    print(f"  $ {'holdfast-check' if module == 'holdfast_check' else module} {' '.join(arguments)}", flush=True)
    begin = time.monotonic()
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = done.stdout.splitlines()
    if not lines:
        lines = [f"no answer (exit status {done.returncode}): {done.stderr.strip()}"]
    for line in shortened(lines):
        print(f"    {line}")
    print(f"    [{time.monotonic() - begin:.0f} s]", flush=True)
    return lines[0], bool(done.stdout)


def train() -> bool:
    """New networks in demo-output; True if they were written."""
    BALANCE.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLE / "problem.toml", BALANCE)
    print(f"  $ python {shown(EXAMPLE / 'train.py')} {shown(BALANCE)}", flush=True)
    begin = time.monotonic()
    command = [sys.executable, str(EXAMPLE / "train.py"), str(BALANCE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    print(f"    {(done.stdout or done.stderr).strip().splitlines()[-1]}\n    [{time.monotonic() - begin:.0f} s]")
    return done.returncode == 0


def published() -> None:
    """The networks that the levels in problem.toml were chosen for."""
    for name in ("controller.onnx", "V.onnx"):
        shutil.copy(EXAMPLE / name, BALANCE)


def closed_loop() -> int:
    """The pole on a weak motor. The number of answers that were not expected."""
    wrong = 0
    problem = shown(BALANCE / "problem.toml")

    def expect(answer: str, expected: str, meaning: str) -> None:
        nonlocal wrong
        wrong += answer != expected
        print(f"  {meaning}" if answer == expected else f"  This was not expected (expected {expected}).", flush=True)

    say(
        "A pole of half a metre stands on a motor that is too weak to lift it from everywhere. Its mass is known to 5 %, and\n"
        "something pushes it. First, a small network is trained to balance it, and a second one, V, to say how far off it is."
    )
    if not train():
        print("  Training failed here; the published networks are used instead.")
        published()

    say("From every state with V <= 0.8, does the pole come back to V <= 0.15 and stay there, whatever the push does?")
    certificate = shown(BALANCE / "caught.hfc")
    caught = ("verify", problem, "--instance", "caught", "--timeout", "60", "--certificate", certificate)
    answer, _ = run("holdfast", *caught)
    if answer != "verified":
        print("  Not proved of the networks trained on this machine. The same question of the published ones:")
        published()
        answer, _ = run("holdfast", *caught)
    expect(
        answer, "verified",
        "Yes: proved for all of these states, masses and pushes, in continuous time, every rounding accounted for.",
    )  # fmt: skip

    say("Must you believe that? No: a small program that shares no code with the first proves it again.")
    answer, _ = run("holdfast_check", problem, certificate)
    expect(answer, "valid", "It agrees.")

    say("Is a larger set never left either, V <= 0.97?")
    answer, _ = run("holdfast", "verify", problem, "--instance", "too-far", "--timeout", "60")
    expect(answer, "falsified", "No: the trajectory above leaves it. That is proved too, not only simulated.")

    say("Without V and without a hint: is there a set that this controller never leaves, whatever the push does?")
    found = shown(BALANCE / "found.toml")
    answer, _ = run(
        "holdfast", "invariant", problem, "--instance", "held", "--find", "--timeout", "30",
        "--out", found, "--plot", shown(OUT / "found.png"),
    )  # fmt: skip
    if answer == "unknown":  # the time decides, and this machine may be busy
        print("  None was found in this time; give it more.")
    else:
        expect(answer, "verified", f"Yes: found, proved, and written to {found}.")
    return wrong


def networks() -> int:
    """One proof and one counterexample about a network alone."""
    network, proved, refuted = DIGITS
    say(
        "Networks alone, too. Can a handwritten 9 be changed by up to 0.06 per pixel so that a network reads another digit?"
    )
    first, _ = run("holdfast", "verify", network, proved, "--timeout", "60")
    print("  No: proved for every one of the infinitely many images (unsat: there is no counterexample).")
    say("The same question about a handwritten 2.")
    second, _ = run("holdfast", "verify", network, refuted, "--timeout", "60")
    print("  Yes: this image is read as another digit; onnxruntime was asked, and agrees (sat).")
    return (first != "unsat") + (second != "sat")


def main() -> int:
    """Asks, explains, draws."""
    begin = time.monotonic()
    OUT.mkdir(exist_ok=True)
    wrong = closed_loop() + networks()
    for name in ("balance", "digits"):
        picture = OUT / f"{name}.png"
        subprocess.run(
            [sys.executable, str(ROOT / "examples" / name / "picture.py"), str(picture)], check=True, cwd=ROOT
        )
    say(
        f"Pictures: {', '.join(shown(p) for p in sorted(OUT.glob('*.png')))}. [{time.monotonic() - begin:.0f} s in all]"
    )
    if wrong:
        print(f"{wrong} answers were not the expected ones.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
