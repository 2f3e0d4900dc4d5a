"""Certificates of flow tubes: what every trajectory of a closed loop does until a time, or that one trajectory does otherwise.

The certificate names boxes, degrees, orders and lengths of steps, which are choices; all enclosures are computed here (docs/certificates/tubes.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
import zipfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from holdfast_check.arithmetic import Invalid, Limit, Unreadable
from holdfast_check.loop import keys, rational_text, require, texts
from holdfast_check.problem import Pair, interval
from holdfast_check.tube_claim import decided
from holdfast_check.tube_loop import SYMBOLS, Change, Loops, Question, follow, loops_of, question
from holdfast_check.tube_model import basis

HEADER = ("format", "version", "claim", "networks", "producer", "problem", "instance")
TERMS = 5000  # of a polynomial
DEEPER = 3  # halvings of a box by the checker itself
ROOM = 1 << 22  # numbers in one array of a batch of boxes
Box = tuple[Pair, ...]
Steps = list[tuple[Fraction, int]]


def header_of(data: bytes, limit: int) -> dict[str, Any] | None:
    """The header of a certificate of tubes; None if the file is not one."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return None
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        if "header.json" not in infos or infos["header.json"].file_size > limit:
            return None
        text = archive.open("header.json").read(infos["header.json"].file_size)
        header = json.loads(text)
        if not isinstance(header, dict) or header.get("format") != "holdfast-tube-certificate":
            return None
        require(
            len(archive.infolist()) == 2 and infos.keys() == {"header.json", "end.json"},
            "the archive does not hold a header and an end",
        )
        end = json.loads(archive.open("end.json").read(min(infos["end.json"].file_size, 1 << 12)))
    digests = {"header.json": hashlib.sha256(text).hexdigest()}
    require(
        end == {"records": 0, "leaves": 0, "members": digests},
        "end.json does not describe what the archive holds (sha256)",
    )
    return header


def tube_verdict(text: bytes, header: dict[str, Any], files: Callable[[str], bytes], deadline: float) -> str:
    """One line of figures if the certificate is valid; raises otherwise."""
    require(
        header.get("version") == 1 and header.get("claim") in ("verified", "falsified"),
        "the version is not 1, or the claim not a known one",
    )

    def tick() -> None:
        if time.monotonic() > deadline:
            raise Limit("the time ran out before all tubes were checked")

    verified = header["claim"] == "verified"
    keys(header, *HEADER, *(("splits", "tubes") if verified else ("trajectory",)))
    require(header["problem"] == hashlib.sha256(text).hexdigest(), "the certificate is for another problem (sha256)")
    require(isinstance(header["instance"], str), "the certificate does not name an instance")
    try:
        asked = question(text, header["instance"], files)
    except (Unreadable, Invalid, OSError, MemoryError):
        raise
    except Exception as error:
        raise Unreadable(f"the problem file: {type(error).__name__}: {error}") from None
    with np.errstate(all="ignore"):
        figures = everything(asked, header, tick) if verified else trajectory(asked, header["trajectory"], tick)
    used = asked.problem.used
    named = used.keys() | (asked.problem.paths() & header["networks"].keys())
    digests = {path: hashlib.sha256(used.get(path) or files(path)).hexdigest() for path in named}
    require(digests == header["networks"], "the certificate is for other networks (sha256)")
    return f"{header['claim']} ({header['instance'] or 'the problem'}): {figures}"


def initial(asked: Question) -> Box:
    """The box of initial states and of parameters that vary."""
    problem = asked.problem
    require(problem.initial.keys() == {*problem.states}, "the initial box does not name each state")
    return (*(interval(problem.initial[s]) for s in problem.states), *problem.parameters.values())


def steps_of(given: Any) -> Steps:
    require(isinstance(given, list), "steps are not a list")
    found = [(rational_text(end), order) for end, order in given]
    require(all(type(order) is int and 1 <= order <= 12 for _, order in found), "an order is not from 1 to 12")
    require(all(a < b for a, b in pairwise([Fraction(0), *(end for end, _ in found)])), "steps are not in order")
    return found


def everything(asked: Question, header: dict[str, Any], tick: Callable[[], None]) -> str:
    """All trajectories from the initial box satisfy the claim."""
    tubes = header["tubes"]
    require(isinstance(tubes, list) and tubes, "there are no tubes")
    boxes = leaves(initial(asked), header["splits"], len(tubes))
    count, loops = 0, loops_of(asked, asked.changes, tick)
    for given, own in zip(tubes, boxes, strict=True):
        keys(given, "degree", "steps")
        require(type(given["degree"]) is int and 1 <= given["degree"] <= 8, "a degree is not from 1 to 8")
        wide = max((sum(a < b for a, b in box) for box in own), default=0)
        require(math.comb(wide + given["degree"], wide) <= TERMS, "polynomials have too many terms")
        count += proved(asked, loops, own, given["degree"], steps_of(given["steps"]), tick)
    return f"{count} boxes"


def leaves(root: Box, splits: Any, tubes: int) -> list[list[Box]]:
    """The tree of splits, parents before children, lower halves first: what is left of the initial box belongs to a tube each."""
    require(isinstance(splits, list), "splits are not a list")
    found: list[list[Box]] = [[] for _ in range(tubes)]
    stack = [root]
    for given in splits:
        require(stack, "the tree of splits has more entries than boxes")
        box = stack.pop()
        if type(given) is int:
            require(0 <= given < tubes, "there is no such tube")
            found[given].append(box)
            continue
        i, at = given
        require(type(i) is int and 0 <= i < len(box), "there is no such component")
        where, (low, high) = rational_text(at), box[i]
        require(low <= where <= high, "a box is cut beside itself")
        stack += [(*box[:i], (where, high), *box[i + 1 :]), (*box[:i], (low, where), *box[i + 1 :])]
    require(not stack, "a part of the initial box has no tube")
    return found


def proved(
    asked: Question, loops: Loops, boxes: Sequence[Box], degree: int, steps: Steps, tick: Callable[[], None]
) -> int:
    """How many boxes it took; raises if the claim is not shown for one of them."""
    queue, count, width = [(box, 0) for box in boxes], 0, max(64, *(loop.width for _, loop in loops))
    while queue:
        wide = [i for i in range(len(queue[-1][0])) if any(box[i][0] < box[i][1] for box, _ in queue)]
        b = basis(len(wide), degree)
        share = max(1, min(32, ROOM // ((len(b) + SYMBOLS + width) * width)))
        now, queue = queue[-share:], queue[:-share]
        seen = follow(asked, loops, [box for box, _ in now], b, steps, True, tick)
        for (box, depth), pieces in zip(now, seen, strict=True):
            known, possible = decided(asked.formula, pieces, asked.problem.kind == "map")
            if known:
                count += 1
                continue
            if depth == DEEPER or not wide or not possible:
                raise Invalid(f"the claim is not shown for all trajectories from {shown(asked, box)}")
            queue += [(half, depth + 1) for half in halves(box, wide[depth % len(wide)])]
    return count


def halves(box: Box, i: int) -> list[Box]:
    middle = (box[i][0] + box[i][1]) / 2
    return [(*box[:i], ends, *box[i + 1 :]) for ends in ((box[i][0], middle), (middle, box[i][1]))]


def shown(asked: Question, box: Box) -> str:
    names = [*asked.problem.states, *asked.problem.parameters]
    return ", ".join(f"{s} in [{float(a):.6g}, {float(b):.6g}]" for s, (a, b) in zip(names, box, strict=True))


def trajectory(asked: Question, given: Any, tick: Callable[[], None]) -> str:
    """One trajectory, which starts in the initial box, does not satisfy the claim."""
    keys(given, "state", "parameters", "disturbances", "steps")
    problem, is_map, whole = asked.problem, asked.problem.kind == "map", initial(asked)
    values = [*texts(given["state"], len(problem.states)), *texts(given["parameters"], len(problem.parameters))]
    require(within(values, whole), "the trajectory does not start in the initial box, or with other parameters")
    rows, pairs = given["disturbances"], list(problem.disturbances.values())
    require(isinstance(rows, list) and bool(rows) == bool(pairs), "there are no disturbances, or too many")
    moments = [(rational_text(t), texts(w, len(pairs))) for t, w in rows]
    ordered = not rows or (moments[0][0] == 0 and all(a[0] < b[0] for a, b in pairwise(moments)))
    whole_steps = not is_map or all(t.denominator == 1 for t, _ in moments)
    require(ordered and whole_steps, "disturbances do not begin at 0, are not in order, or do not change at steps")
    require(all(within(w, pairs) for _, w in moments), "a disturbance is not in its interval")
    changes: list[Change] = []
    for t in sorted({t for t, _ in (*asked.changes, *moments)}):
        known = next(constants for s, constants in reversed(asked.changes) if s <= t)
        w = next((w for s, w in reversed(moments) if s <= t), [])
        changes.append((t, {**known, **dict(zip(problem.disturbances, w, strict=True))}))
    box, steps = tuple((v, v) for v in values), steps_of(given["steps"])
    (seen,) = follow(asked, loops_of(asked, changes, tick), [box], basis(0, 0), steps, False, tick)
    require(not decided(asked.formula, seen, is_map)[1], "the trajectory is not known to violate the claim")
    return "a trajectory violates the claim"


def within(values: Sequence[Fraction], ends: Sequence[Pair]) -> bool:
    return all(a <= v <= b for v, (a, b) in zip(values, ends, strict=True))
