"""The answer of `holdfast verify` as text: verdict, witness, explanation.

The explanation lines start with "; ", VNN-LIB's comment sign, so that a program can tell them from the witness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.report.decimals import round_down
from holdfast.report.witness import witness_text
from holdfast.verdict import CertificateStatus, Counterexample, Result, Verdict

if TYPE_CHECKING:
    from holdfast.spec import Property


def answer_text(result: Result, prop: Property | None = None, *, quiet: bool = False) -> str:
    """Everything `holdfast verify` writes on standard output for one property."""
    parts = [result.verdict.vnnlib]
    if result.verdict is Verdict.FALSIFIED and isinstance(result.counterexample, Counterexample):
        parts.append(witness_text(result.counterexample, prop))
    if not quiet:
        parts.extend(f"; {line}" for line in explanation(result))
    return "\n".join(parts)


def explanation(result: Result) -> list[str]:
    """Sentences for a person: why, how far the bounds got, what was done, where the time went."""
    lines = [result.reason.value]
    lines.extend(" ".join(line.split()) for line in result.detail.splitlines() if line.strip())
    if isinstance(result.counterexample, Counterexample):
        lines.append(
            "evaluation over the reals proves the violation at this point too"
            if result.counterexample.proved
            else "thin: evaluation over the reals does not prove the violation at this point, rounding decides"
        )
    if result.bound is not None:
        lines.append(f"lower bound of the worst margin: {round_down(result.bound)} (positive: proved)")
    counts, phases = _split(result.statistics)
    if counts:
        lines.append(", ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in counts.items()))
    spent = ", ".join(f"{name} {float(seconds):.3f}" for name, seconds in phases.items())
    lines.append(f"{result.seconds:.3f} seconds" + (f" ({spent})" if spent else ""))
    lines.append(f"semantics: {result.semantics}")
    if result.certificate is not None:
        lines.append(certificate_line(result.certificate))
    return lines


def certificate_line(status: CertificateStatus) -> str:
    """Where the certificate is, or why there is none."""
    if status.missing:
        return f"no certificate: {status.missing}"
    return f"certificate: {status.file} ({status.leaves} leaves, {status.size} bytes)"


def _split(statistics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain entries, and the seconds of each phase (the entry ``phases`` or ``seconds``, a mapping of numbers)."""
    phases: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for name, value in statistics.items():
        if name in ("phases", "seconds") and isinstance(value, Mapping):
            phases.update({k: v for k, v in value.items() if isinstance(v, int | float)})
        elif isinstance(value, str | int | float):
            counts[name] = value
    return counts, phases


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
