"""Certificates of flow tubes: the tree of boxes that were followed, with the degrees, orders and lengths of steps that were good enough.

Last station of `holdfast verify` for claims about trajectories; the checker follows the same boxes with its own arithmetic
(docs/certificates/tubes.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import holdfast
from holdfast.certificate import CertificateWriter
from holdfast.errors import InputError
from holdfast.reachability.claim import Claim
from holdfast.reachability.falsify import RESOLUTIONS
from holdfast.reachability.replay import Replay
from holdfast.reachability.split import Proved, steps_of
from holdfast.reachability.witness import Witness
from holdfast.spec.formula import Formula
from holdfast.spec.temporal import Instance
from holdfast.transforms.live_elements import live_elements
from holdfast.verdict import CertificateStatus, Violation

Steps = Sequence[tuple[Fraction, int]]


def obstacle(instance: Instance, claim: Claim) -> str:
    """Why the format has no certificate for this claim; empty if it may have one."""
    controller, plant = instance.loop.controller, instance.loop.plant
    if controller is not None and controller.select is not None:
        return "certificates of tubes do not know selecting controllers yet"
    if claim.others or any(p.function is not None for p in instance.properties):
        return "there are no certificates yet for claims of two kinds at once"
    read = live_elements(claim.values, range(len(claim.texts))).inputs
    if (read >= len(plant.signals) - len(plant.schedule)).any():
        return "certificates of tubes do not know sets that read scheduled signals yet"
    if _nested(claim.formula):
        return "certificates of tubes do not know temporal operators inside others yet"
    return ""


def _nested(formula: Formula) -> bool:
    """Whether a temporal operator stands inside another one."""
    inside = formula.operator in "GFU" and any(a.temporal for a in formula.arguments)
    return inside or any(map(_nested, formula.arguments))


def certify_proof(path: Path, header: Mapping[str, Any], proved: Sequence[Proved]) -> CertificateStatus:
    """Every trajectory satisfies the claim: cells that make up the whole initial box."""
    kinds: dict[tuple[int, tuple[tuple[Fraction, int], ...]], int] = {}
    for one in proved:
        kinds.setdefault((one.degree, one.steps), len(kinds))
    tubes = [{"degree": degree, "steps": _texts(steps)} for degree, steps in kinds]
    leaves = {one.path: kinds[one.degree, one.steps] for one in proved}
    splits = _tree(leaves)
    return _written(path, {**header, "claim": "verified", "splits": splits, "tubes": tubes}, len(proved))


def certify_violation(
    path: Path, header: Mapping[str, Any], violation: Violation, instance: Instance, claim: Claim
) -> CertificateStatus:
    """One trajectory does not satisfy the claim; its steps are those of a fine enclosure."""
    changes = tuple(Fraction(time) for time, _ in violation.disturbances) or (Fraction(0),)
    values = tuple(v for _, v in violation.disturbances) or ((),)
    replay = Replay(instance.loop, Witness(violation.state, violation.parameters, values), changes, RESOLUTIONS[-1])
    # what has to hold at all times and does not at one is enough
    last = Fraction(violation.time) if all(p.must for p in claim.predicates) else claim.end
    steps: list[tuple[Fraction, int]] = []
    with np.errstate(all="ignore"):
        for segments in replay.segments(claim.end):
            if not segments or (steps and steps[-1][0] >= last):
                break
            steps += steps_of(segments, replay.system, segments[-1].end)
    steps = [s for s in steps if s[0] > 0]
    trajectory = {
        "state": list(violation.state), "parameters": list(violation.parameters),
        "disturbances": [[time, list(values)] for time, values in violation.disturbances], "steps": _texts(steps),
    }  # fmt: skip
    return _written(path, {**header, "claim": "falsified", "trajectory": trajectory}, 1)


def _texts(steps: Steps) -> list[list[Any]]:
    return [[str(end), order] for end, order in steps]


def _tree(leaves: Mapping[tuple[tuple[int, Fraction, bool], ...], int]) -> list[Any]:
    """Parents before children, lower halves first: splits (component, place), and the numbers of tubes."""
    splits = {path[:k]: path[k][:2] for path in leaves for k in range(len(path))}
    found: list[Any] = []
    stack: list[tuple[tuple[int, Fraction, bool], ...]] = [()]
    while stack:
        path = stack.pop()
        if path in leaves:
            found.append(leaves[path])
            continue
        component, at = splits[path]
        found.append([component, str(at)])
        stack += [(*path, (component, at, True)), (*path, (component, at, False))]
    return found


def _written(path: Path, header: Mapping[str, Any], leaves: int) -> CertificateStatus:
    full = {
        "format": "holdfast-tube-certificate",
        "version": 1,
        "producer": f"holdfast {holdfast.__version__}",
        **header,
    }
    try:
        return CertificateStatus(str(path), leaves, CertificateWriter(path, full).finish())
    except OSError as error:
        raise InputError(f"{path}: the certificate cannot be written ({error.strerror})") from None
