"""Answers about closed loops as text and JSON: the file's verdict, a line per instance, explanations.

The explanation lines start with "; ", as for networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from holdfast.report.decimals import round_down, round_up
from holdfast.report.table import table
from holdfast.report.text import certificate_line
from holdfast.spec.temporal import Instance, Problem
from holdfast.verdict import Escape, Reason, Refutation, Result, Verdict, Violation

WORDS = {  # what a reason means for a closed loop
    Reason.PROVED: "every condition of the proof holds, by outward-rounded bounds",
    Reason.WITNESS: "a trajectory that leaves the set was found, and enclosed",
}
MOST_CONDITIONS = 8  # told one by one; of more, the hardest


def overall(results: Iterable[Result]) -> Verdict:
    """The file's verdict: verified if all are, falsified if one is; timeout if only time was missing, else unknown."""
    verdicts = {result.verdict for result in results}
    if Verdict.FALSIFIED in verdicts:
        return Verdict.FALSIFIED
    if Verdict.UNKNOWN in verdicts:
        return Verdict.UNKNOWN
    return Verdict.TIMEOUT if Verdict.TIMEOUT in verdicts else Verdict.VERIFIED


def loop_text(problem: Problem, results: Mapping[str, Result], *, quiet: bool = False) -> str:
    """Everything `holdfast verify` writes on standard output for a problem file."""
    parts = [overall(results.values()).value]
    wide = max(map(len, results))
    parts += [
        f"{name.ljust(wide)}  {result.verdict.value:9} {result.seconds:9.3f} s"
        for name, result in results.items()
        if name
    ]
    if quiet:
        return "\n".join(parts)
    for instance in problem.instances:
        if instance.id in results:
            head = [f"{instance.id}:"] if instance.id else []
            lines = [*head, *explanation(problem, instance, results[instance.id])]
            parts += [f"; {line}" if k < len(head) or not head else f";   {line}" for k, line in enumerate(lines)]
    return "\n".join(parts)


def explanation(problem: Problem, instance: Instance, result: Result) -> list[str]:
    """Sentences for a person: why, what leaves the set, what was proved, where the time went."""
    lines = [words(result)]
    lines += [
        " ".join(line.split()) for line in without_place(result.detail, problem, instance).splitlines() if line.strip()
    ]
    if isinstance(result.counterexample, Escape):
        lines += escape_lines(result.counterexample, instance)
    if isinstance(result.counterexample, Refutation):
        lines += refutation_lines(result.counterexample, instance)
    if isinstance(result.counterexample, Violation):
        lines += violation_lines(result.counterexample, instance)
    lines += tube_lines(result)
    if result.bound is not None:
        lines.append(f"lower bound of the worst margin: {round_down(result.bound)} (positive: proved)")
    lines += facts(instance, result)
    lines += condition_lines(result.statistics.get("margins", ()))
    phases = result.statistics.get("phases", {})
    spent = ", ".join(f"{name} {float(seconds):.3f}" for name, seconds in phases.items())
    lines.append(f"{result.seconds:.3f} seconds" + (f" ({spent})" if spent else ""))
    if result.certificate is not None:
        lines.append(certificate_line(result.certificate))
    return lines


def words(result: Result) -> str:
    """What a reason means for a closed loop."""
    if isinstance(result.counterexample, Refutation):
        return "a state that contradicts the claim was found, and enclosed"
    if isinstance(result.counterexample, Violation):
        return "a trajectory that violates the claim was found, and enclosed"
    if result.reason is Reason.PROVED and "degree" in result.statistics:
        return "flow tubes of all initial states keep to the claim, by outward-rounded bounds"
    return WORDS.get(result.reason, result.reason.value)


def reason_text(result: Result, problem: Problem, instance: str) -> str:
    """Why, in one line: reason and detail without the places that the reader knows."""
    one = next(i for i in problem.instances if i.id == instance)
    parts = [words(result), without_place(result.detail, problem, one)]
    return ". ".join(part for part in parts if part)


def without_place(text: str, problem: Problem, instance: Instance) -> str:
    """A message without the file and the instance, which the reader knows."""
    text = text.replace(f"{problem.path}: instance {instance.id}: ", "") if instance.id else text
    return text.replace(f"{problem.path}: ", "")


def escape_lines(escape: Escape, instance: Instance) -> list[str]:
    """The trajectory that leaves the set: start, where it is then, what is violated and by how much.

    The numbers of the start are float64 numbers, written so that they read back as themselves.
    """
    signals = instance.loop.plant.signals
    step = instance.loop.plant.kind == "map"
    lines = [f"from {_point(signals.states, escape.state)}"]
    if signals.disturbances:
        lines.append(f"under the constant disturbances {_point(signals.disturbances, escape.disturbances)}")
    if signals.parameters:
        lines.append(f"with the parameters {_point(signals.parameters, escape.parameters)}")
    ends = [f"{n} in [{round_down(a, 9)}, {round_up(b, 9)}]" for n, a, b in zip(signals.states, escape.low, escape.high, strict=True)]  # fmt: skip
    when = "after 1 step" if step else f"at {escape.time!r} s"
    lines.append(f"the state {when} is proved to lie in {', '.join(ends)}")
    side = f"inequality {escape.side + 1}"
    lines.append(f"there {side} of the set, {escape.text}, is violated by at least {round_down(escape.margin)}")
    return lines


def refutation_lines(found: Refutation, instance: Instance) -> list[str]:
    """The state, or the box in which it is proved to lie, and what is constant."""
    signals = instance.loop.plant.signals
    if found.low == found.high:
        lines = [f"at {_point(signals.states, found.low)}"]
    else:
        ends = zip(signals.states, found.low, found.high, strict=True)
        lines = [f"at a state in {', '.join(f'{n} in [{round_down(a, 9)}, {round_up(b, 9)}]' for n, a, b in ends)}"]
    if signals.disturbances:
        lines.append(f"under the constant disturbances {_point(signals.disturbances, found.disturbances)}")
    if signals.parameters:
        lines.append(f"with the parameters {_point(signals.parameters, found.parameters)}")
    return lines


def violation_lines(found: Violation, instance: Instance) -> list[str]:
    """The trajectory that violates a claim: start, signals, and where it shows. Its numbers are exact."""
    signals = instance.loop.plant.signals
    lines = [f"from {_said(signals.states, found.state)}"]
    if signals.parameters:
        lines.append(f"with the parameters {_said(signals.parameters, found.parameters)}")
    if found.disturbances:
        first, *later = found.disturbances
        lines.append(f"under the disturbances {_said(signals.disturbances, first[1])}" + (" at first" if later else ""))
        lines += [f"from {time} on {_said(signals.disturbances, values)}" for time, values in later]
    ends = [f"{n} in [{round_down(a, 9)}, {round_up(b, 9)}]" for n, a, b in zip(signals.states, found.low, found.high, strict=True)]  # fmt: skip
    when = f"after {found.time:g} steps" if instance.loop.plant.kind == "map" else f"at {found.time:.9g} s"
    lines.append(f"the state {when} is proved to lie in {', '.join(ends)}")
    how = "holds" if found.holds else "is violated"
    lines.append(f"there {found.text} {how} by at least {round_down(found.margin)}")
    return lines


def _said(names: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{n} = {v}" for n, v in zip(names, values, strict=True))


def tube_lines(result: Result) -> list[str]:
    """How many boxes of initial states were followed."""
    found = result.statistics
    if "degree" not in found or result.counterexample is not None:
        return []
    count = int(found["sub-problems"])
    boxes = (
        "the whole box of initial states was followed"
        if count == 1
        else f"{count} boxes of initial states were followed"
    )
    share = "" if result.reason is Reason.PROVED else f", {100 * float(found['proved share']):.3g} % of it is proved"
    return [f"{boxes}, with polynomials of degree {found['degree']}{share}"]


def facts(instance: Instance, result: Result) -> list[str]:
    """What was found about the equilibrium."""
    states = instance.loop.plant.signals.states
    lines = []
    point = result.statistics.get("equilibrium")
    if point is not None:
        lines.append(
            f"equilibrium near {', '.join(f'{n} = {float(v):.6g}' for n, v in zip(states, point, strict=True))}"
        )
    found = result.statistics.get("contraction")
    if isinstance(found, Mapping) and "half_widths" in found:
        wide = ", ".join(f"{n} +- {float(v):.4g}" for n, v in zip(states, found["half_widths"], strict=True))
        rate = f", rate {float(found['rate']):.4g}" if "rate" in found else ""
        lines.append(f"ellipsoid of contraction around it: {wide}{rate}")
    return lines


def condition_lines(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """How each condition went, the hardest ones where there are many."""
    if not conditions:
        return []
    shown = list(conditions)
    if len(shown) > MOST_CONDITIONS:
        shown = sorted(shown, key=lambda c: (bool(c["proved"]), -int(c["sub-problems"])))[:MOST_CONDITIONS]
    rows = [
        (str(c["condition"]).rsplit(": ", 1)[-1], "yes" if c["proved"] else "no", str(c["sub-problems"]), f"{c['seconds']:.3f}")
        for c in shown
    ]  # fmt: skip
    head = (
        "condition" if len(shown) == len(conditions) else f"condition (the {len(shown)} hardest of {len(conditions)})"
    )
    return table((head, "proved", "sub-problems", "seconds"), rows).splitlines()


def loop_json(problem: Problem, results: Mapping[str, Result]) -> dict[str, Any]:
    """A JSON-ready dictionary: the file's verdict, and the whole result of each instance."""
    asked = [(instance, results[instance.id]) for instance in problem.instances if instance.id in results]
    return {
        "problem": problem.path, "title": problem.title, "sha256": problem.sha256,
        "verdict": overall(results.values()).value,
        "instances": [
            {
                "instance": instance.id, "expected": instance.expected, **result.to_json(),
                "detail": without_place(result.detail, problem, instance),
            }
            for instance, result in asked
        ],
    }  # fmt: skip


def _point(names: Sequence[str], values: Sequence[float]) -> str:
    return ", ".join(f"{name} = {float(value)!r}" for name, value in zip(names, values, strict=True))
