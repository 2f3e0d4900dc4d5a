"""Certificates of benchmark folders: what they cost to write, how large they are, and what checking them costs.

    python benchmarks/certificates.py FOLDER [FOLDER ...] [--timeout S] [--filter TEXT] [--out CSV] [--keep DIR]

Each instance runs in processes of its own, one at a time: `holdfast verify` with and without `--certificate`, then
`holdfast-check`. Times are processor seconds (user + system, all processes of the command), so that two cores are not
an advantage for either side. Ends with exit status 1 unless every certificate is valid.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COLUMNS = (
    "folder", "onnx", "vnnlib", "verdict", "leaves", "bytes", "plain_s", "plain_cpu", "verify_s", "verify_cpu", "check_s", "check_cpu",
    "check",
)  # fmt: skip


def timed(words: list[str]) -> tuple[str, float, float, int]:
    """Standard output, wall and processor seconds, exit status of a process."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        text = out.read().decode(errors="replace")
    return text, seconds, usage.ru_utime + usage.ru_stime, process.returncode


def one(folder: Path, names: tuple[str, str], limit: float, keep: Path) -> dict[str, object]:
    """The row of one instance."""
    files = [next(str(p) for p in (folder / n, folder / (n + ".gz")) if p.exists()) for n in names]
    verify = [sys.executable, "-m", "holdfast", "verify", *files, "--timeout", str(limit), "--quiet"]
    row: dict[str, object] = dict.fromkeys(COLUMNS, "")
    row |= {"folder": folder.name, "onnx": names[0], "vnnlib": names[1]}
    stem = "--".join(Path(n).name.split(".onnx")[0].split(".vnnlib")[0] for n in names)
    certificate, answer = keep / f"{folder.name}--{stem}.hfc", keep / "answer.json"
    text, row["verify_s"], row["verify_cpu"], _ = timed(
        [*verify, "--certificate", str(certificate), "--json", str(answer)]
    )
    row["verdict"] = text.split("\n", 1)[0]
    if row["verdict"] not in ("sat", "unsat"):
        return row
    _, row["plain_s"], row["plain_cpu"], _ = timed(verify)
    status = json.loads(answer.read_text())["certificate"]
    if status["missing"]:
        return row | {"check": f"none: {status['missing']}"}
    row |= {"leaves": status["leaves"], "bytes": status["size"]}
    said, row["check_s"], row["check_cpu"], _ = timed(
        [sys.executable, "-m", "holdfast_check", *files, str(certificate)]
    )
    return row | {"check": said.split("\n", 1)[0]}


def summary(rows: list[dict]) -> str:
    """One line per folder."""
    lines = [
        f"{'folder':20}{'unsat':>6}{'valid':>6}{'sat':>5}{'valid':>6}{'leaves':>9}{'MB':>8}{'B/leaf':>8}"
        f"{'verify':>9}{'write':>8}{'check':>9}{'ratio':>7}{'median':>8}{'worst':>7}"
    ]
    for folder in dict.fromkeys(r["folder"] for r in rows):
        mine = [r for r in rows if r["folder"] == folder]
        proofs = [r for r in mine if r["verdict"] == "unsat"]
        checked = [r for r in proofs if r["check"] == "valid"]
        witnesses = [r for r in mine if r["verdict"] == "sat"]
        leaves, size = (sum(int(r[k] or 0) for r in checked) for k in ("leaves", "bytes"))
        plain, cpu, check = (sum(float(r[k]) for r in checked) for k in ("plain_cpu", "verify_cpu", "check_cpu"))
        ratios = [float(r["check_cpu"]) / float(r["plain_cpu"]) for r in checked] or [0.0]
        lines.append(
            f"{folder:20}{len(proofs):6}{len(checked):6}{len(witnesses):5}{sum(r['check'] == 'valid' for r in witnesses):6}"
            f"{leaves:9}{size / 1e6:8.2f}{size / max(leaves, 1):8.1f}{plain:9.1f}{cpu / max(plain, 1e-9) - 1:+8.1%}"
            f"{check:9.1f}{check / max(plain, 1e-9):7.2f}{statistics.median(ratios):8.2f}{max(ratios):7.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--filter", default="")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="folder to leave the certificates in")
    options = parser.parse_args()
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        for folder in options.folders:
            with (folder / "instances.csv").open() as listed:
                instances = [(cells[0].strip(), cells[1].strip()) for cells in csv.reader(listed)]
            for names in instances:
                if options.filter and not any(options.filter in name for name in names):
                    continue
                rows.append(one(folder, names, options.timeout, keep))
                last = rows[-1]
                print(*(f"{v:.2f}" if isinstance(v, float) else v for v in last.values()), sep=",", flush=True)
    if options.out:
        with options.out.open("w", newline="") as target:
            writer = csv.DictWriter(target, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    print(summary(rows))
    return 0 if all(r["check"] == "valid" for r in rows if r["verdict"] == "unsat") else 1


if __name__ == "__main__":
    sys.exit(main())
