"""Certificates of flow tubes of small problems: true claims are shown, false ones are not, whatever is chosen."""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from evaluation import archive
from loops import FILES, REFUSED

from holdfast_check import __main__ as command
from holdfast_check.arithmetic import Invalid, Unreadable
from holdfast_check.tube_claim import Formula, decided
from holdfast_check.tube_loop import question

ATOM = (Formula("atom", number=0), Formula("atom", number=1))
YES, NO, OPEN = (True, True), (False, False), (False, True)


def window(kind: str, *parts: Formula, first: int = 0, last: int = 2) -> Formula:
    return Formula(kind, parts, window=(Fraction(first), Fraction(last)))


def pieces(*values, discrete: bool = False):
    """One per unit of time, each a pair (or one) of what is known."""
    found = [[v] if isinstance(v[0], bool) else list(v) for v in values]
    if discrete:
        return [(Fraction(k), Fraction(k), v) for k, v in enumerate(found)]
    return [(Fraction(k), Fraction(k + 1), v) for k, v in enumerate(found)]


@pytest.mark.parametrize(
    ("formula", "seen", "expected"),
    [
        (window("G", ATOM[0]), [YES, YES], YES),
        (window("G", ATOM[0]), [YES, OPEN], OPEN),
        (window("G", ATOM[0]), [OPEN, NO], NO),
        (window("G", ATOM[0]), [YES], OPEN),  # the tube ends too early
        (window("G", ATOM[0], first=1), [OPEN, YES], YES),  # the instant 1 belongs to both pieces: it is known by the second
        (window("F", ATOM[0]), [NO, YES], YES),
        (window("F", ATOM[0]), [NO, NO], NO),
        (window("F", ATOM[0]), [NO], OPEN),
        (window("F", ATOM[0]), [OPEN, NO], OPEN),
        (window("U", *ATOM), [(YES, NO), (OPEN, YES)], YES),  # at the instant 1, when the first has held
        (window("U", *ATOM), [(OPEN, NO), (YES, YES)], OPEN),
        (window("U", *ATOM), [(YES, NO), (YES, NO)], NO),
        (window("U", *ATOM, first=1), [(NO, YES), (NO, YES)], NO),
        (window("U", *ATOM), [(NO, YES), (NO, YES)], YES),  # at once
        (Formula("not", (window("G", ATOM[0]),)), [NO, YES], YES),
        (Formula("or", (window("G", ATOM[0]), window("F", ATOM[0]))), [NO, YES], YES),
    ],
)  # fmt: skip
def test_what_follows_from_pieces(formula: Formula, seen, expected) -> None:
    number = 2 if formula.kind in ("U", "or") else 1
    shown = pieces(*([v] * number if number == 2 and isinstance(v[0], bool) else v for v in seen))
    assert decided(formula, shown, False) == expected


def test_steps_that_are_missing_are_not_known() -> None:
    steps = pieces(YES, YES, YES, discrete=True)
    assert decided(window("G", ATOM[0]), steps, True) == YES
    assert decided(window("G", ATOM[0]), [steps[0], steps[2]], True) == OPEN
    assert (
        decided(window("U", *ATOM), [(t, t, [YES, YES if t == 2 else NO]) for t in (Fraction(0), Fraction(2))], True)
        == OPEN
    )


PLANT = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["th", "om"]
inputs = ["T"]
parameters = {{ k = {k} }}
derivative = {{ th = "om", om = "k*sin(th) + T" }}
[controller]
network = "c.onnx"
feedback = "sampled"
period = 0.1
network_inputs = ["th", "om"]
plant_inputs = {{ T = "y0" }}
[initial]
th = [0.2, 0.3]
om = [-0.1, 0.1]
[horizon]
steps = 10
[[property]]
id = "p"
{claim}
"""
LINEAR = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x"]
disturbances = {{ w = {w} }}
derivative = {{ x = "-x + w" }}
[initial]
x = [0.9, 1.0]
[horizon]
time = 1
[[property]]
id = "p"
{claim}
"""
MAP = """format = "holdfast-problem/1"
[plant]
kind = "map"
states = ["x"]
disturbances = {{ w = {w} }}
next = {{ x = "0.5*x + w" }}
[initial]
x = [0.9, 1.0]
[horizon]
steps = 5
[[property]]
id = "p"
{claim}
"""


def steps(end: str, count: int, order: int = 6) -> list:
    return [[str(Fraction(end) * (k + 1) / count), order] for k in range(count)]


def check(text: str, **more) -> str:
    head = {"format": "holdfast-tube-certificate", "version": 1, "problem": hashlib.sha256(text.encode()).hexdigest()}
    head |= {"instance": "", "producer": "a test"}
    head |= {"networks": {n: hashlib.sha256(FILES[n]).hexdigest() for n in FILES if n in text}} | more
    head["claim"] = more.get("claim", "falsified" if "trajectory" in more else "verified")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.hfc"
        archive(path, head, {})
        return command.loop_verdict(text.encode(), path.read_bytes(), FILES.__getitem__, 1 << 28, math.inf)


def verified(text: str, count: int = 10, splits=(0,), degree: int = 3, order: int = 6, end: str = "1") -> str:
    return check(text, splits=list(splits), tubes=[{"degree": degree, "steps": steps(end, count, order)}])


CLAIMS = [  # (true, false) of the pendulum, whose angle is at most 0.315, and 0.06 ... 0.27 at the end
    ('kind = "always"\nset = { box = { th = [0, 0.4] } }', 'kind = "always"\nset = { box = { th = [0, 0.29] } }'),
    ('kind = "always"\nnot_set = { box = { th = [0.5, 1] } }', 'kind = "always"\nnot_set = { box = { th = [0.31, 1], om = [-9, 9] } }'),
    ('kind = "always"\nset = { where = ["th^2 + om^2 <= 0.2"] }', 'kind = "always"\nset = { where = ["th^2 + om^2 < 0.03"] }'),
    ('kind = "at"\ntime = 1.0\nset = { box = { th = [0, 0.28] } }', 'kind = "at"\nstep = 5\nset = { box = { th = [0, 0.1] } }'),
    ('kind = "eventually"\nset = { box = { th = [0, 0.28] } }', 'kind = "eventually"\nset = { box = { th = [0, 0.1] } }'),
    ('kind = "until"\nfirst = { where = ["th <= 0.4"] }\nthen = { where = ["th <= 0.28"] }',
     'kind = "until"\nfirst = { where = ["om >= -0.05"] }\nthen = { where = ["th <= 0.15"] }'),
    ('kind = "stl"\nformula = "G[0,1](th <= 0.4) & F[0.5,1] (th + om <= 0.25)"', 'kind = "stl"\nformula = "!(th <= 0.4) | G[0,1](th - om <= 0.3)"'),
    ('kind = "stl"\nformula = "(th <= 0.4) U[0,1] ((th + 0.1) * 2 <= 0.78 & om <= 1)"', 'kind = "stl"\nformula = "F[0,0.5] th <= 0.1"'),
]  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "k"), [*((p, "1") for p in CLAIMS), (CLAIMS[0], "[0.9, 1.1]"), (CLAIMS[5], "[0.9, 1.1]")]
)
def test_true_claims_are_shown_and_false_ones_are_not(k: str, pair: tuple[str, str]) -> None:
    assert verified(PLANT.format(k=k, claim=pair[0])).startswith("verified")
    with pytest.raises(Invalid, match="not shown"):
        verified(PLANT.format(k=k, claim=pair[1]))


@pytest.mark.parametrize(("degree", "count", "order"), [(1, 10, 6), (2, 40, 2), (6, 4, 12)])
def test_choices_may_be_poor_but_not_wrong(degree: int, count: int, order: int) -> None:
    true, false = CLAIMS[0]
    assert verified(PLANT.format(k="1", claim=true), count, degree=degree, order=order)
    with pytest.raises(Invalid):
        verified(PLANT.format(k="1", claim=false), count, degree=degree, order=order)


def test_disturbances_that_change() -> None:
    for pattern, shift in ((LINEAR, 0), (MAP, 1)):
        end = "5" if shift else "1"
        text = pattern.format(w="[-0.1, 0.1]", claim='kind = "always"\nset = { box = { x = [-0.3, 1.11] } }')
        assert verified(text, count=int(end) if shift else 8, end=end)
    # at the end x is in 0.9 e^-1 - 0.1 (1 - e^-1) ... e^-1 + 0.1 (1 - e^-1) = 0.26788 ... 0.43109
    claim = 'kind = "at"\ntime = 1\nset = {{ box = {{ x = [{}, {}] }} }}'
    assert verified(LINEAR.format(w="[-0.1, 0.1]", claim=claim.format(0.267, 0.432)), count=64)
    for low, high in ((0.268, 0.432), (0.267, 0.431)):
        with pytest.raises(Invalid):
            verified(LINEAR.format(w="[-0.1, 0.1]", claim=claim.format(low, high)), count=64)


def test_trajectories() -> None:
    text = LINEAR.format(w="[-0.1, 0.1]", claim='kind = "at"\ntime = 1\nset = { box = { x = [0, 0.43] } }')
    good = {"state": ["1"], "parameters": [], "disturbances": [["0", ["0.1"]]], "steps": steps("1", 8)}
    assert "violates" in check(text, trajectory=good)
    wrong = [
        {"state": ["1.01"]}, {"state": ["0.9"]}, {"disturbances": [["0", ["0.2"]]]}, {"disturbances": [["0", ["0.1"]], ["1/2", ["-0.1"]]]},
        {"disturbances": []}, {"disturbances": [["1/2", ["0.1"]]]}, {"steps": steps("7/8", 7)}, {"steps": []}, {"parameters": ["1"]}, {"state": []},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(REFUSED):
            check(text, trajectory=good | change)


def test_boxes_make_up_the_whole() -> None:
    text = PLANT.format(k="1", claim=CLAIMS[0][0])
    for splits in ([[0, "1/4"], 0, 0], [[1, "0"], [0, "0.21"], 0, 0, 0], [[0, "0.2"], 0, 0]):
        assert verified(text, splits=splits)
    for splits in (
        [],
        [[0, "1/4"], 0],
        [[0, "1/4"], 0, 0, 0],
        [[0, "0.4"], 0, 0],
        [[2, "0"], 0, 0],
        [1],
        [-1],
        [[0, "x"], 0, 0],
        ["0"],
        [True],
    ):
        with pytest.raises(REFUSED):
            verified(text, splits=splits)


def test_a_horizon_that_is_not_reached() -> None:
    with pytest.raises(Invalid, match="not shown"):
        verified(PLANT.format(k="1", claim=CLAIMS[0][0]), end="0.9")


@pytest.mark.parametrize(
    "claim",
    [
        'kind = "always"\nset = { where = ["T <= 1"] }', 'kind = "always"\nset = { where = ["w <= 1"] }', 'kind = "always"',
        'kind = "at"\ntime = 2\nset = { box = { th = [0, 1] } }', 'kind = "always"\nset = { box = {} }', 'kind = "invariant"\nset = { box = { th = [0, 1] } }',
        'kind = "stl"\nformula = "G[0,1] F[0,0.5] th <= 1"', 'kind = "stl"\nformula = "G[0,1 th <= 1"', 'kind = "stl"\nformula = "th"',
        'kind = "always"\nduring = [1, 0]\nset = { box = { th = [0, 1] } }', 'kind = "always"\nhow = 1\nset = { box = { th = [0, 1] } }',
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(claim: str) -> None:
    with pytest.raises((Unreadable, Invalid)):
        verified(PLANT.format(k="1", claim=claim))


def test_schedules() -> None:
    text = PLANT.format(k="1", claim='kind = "always"\nset = { box = { th = [-5, 5] } }')
    text = text.replace('inputs = ["T"]', 'inputs = ["T"]\nschedule = { r = [[0, 0], [0.55, 1]] }')
    asked = question(text.encode(), "", FILES.__getitem__)
    assert [t for t, _ in asked.changes] == [0, Fraction(11, 20)]
    pushed = text.replace("k*sin(th) + T", "k*sin(th) + T + 10*r").replace("[-5, 5]", "[-5, LIMIT]")
    # 10 * 0.45^2 / 2 = 1.01 more than 0.19, less what the controller takes back
    assert verified(pushed.replace("LIMIT", "1.2"))
    with pytest.raises(Invalid):
        verified(pushed.replace("LIMIT", "0.6"))
    assert verified(pushed.replace("LIMIT", "0.4").replace("[0.55, 1]", "[2, 1]"))


def test_piece_times_follow_one_another() -> None:
    asked = question(PLANT.format(k="1", claim=CLAIMS[0][0]).encode(), "", FILES.__getitem__)
    assert all(a <= b for a, b in pairwise([t for t, _ in asked.changes])) and json.dumps(asked.problem.states)


KINKED = """format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["x"]
derivative = {{ x = "{rate}" }}
[initial]
x = [-0.1, 0.1]
[horizon]
time = 1
[[property]]
id = "p"
kind = "at"
time = 1
set = {{ box = {{ x = [{low}, {high}] }} }}
"""


def test_right_sides_with_kinks() -> None:
    """From x > 0 the solution is x e^-t, from x < 0 it is x e^t: -0.27183 ... 0.036788."""
    assert verified(KINKED.format(rate="-abs(x)", low=-0.28, high=0.045), count=32, order=2)
    for low, high in ((-0.271, 0.045), (-0.28, 0.036)):
        with pytest.raises(Invalid, match="not shown"):
            verified(KINKED.format(rate="-abs(x)", low=low, high=high), count=32, order=2)
    with pytest.raises(Invalid, match="not shown"):  # of higher derivatives nothing is known across the kink
        verified(KINKED.format(rate="-abs(x)", low=-0.28, high=0.045), count=32, order=4)
    # a trajectory that begins at the kink, from where it leaves
    text = KINKED.format(rate="0.2 - abs(x)", low=-0.5, high=0.12)
    wrong = {"state": ["0"], "parameters": [], "disturbances": [], "steps": steps("1", 32, 2)}
    assert "violates" in check(text, trajectory=wrong)  # it is 0.2 (1 - e^-1) = 0.1264 at the end


def test_functions_of_right_sides() -> None:
    """x' = 1 / (2 sqrt(4 + x)) and its like, against solutions that are known."""
    for rate, low, high in (
        ("1/(2*sqrt(4 + x))", 0.14924, 0.34336),  # (3/4 + (4 + x)^(3/2))^(2/3) - 4
        ("exp(-x)", 0.64439, 0.74440),  # log(e^x + 1)
        ("1 + x^2", 1.2610, 1.9632),  # tan(1 + atan(x))
        ("0*log(3 + x) + cos(x)^2", 0.73263, 0.83314),  # atan(tan(x) + 1)
    ):
        assert verified(KINKED.format(rate=rate, low=low, high=high), count=16, degree=6)
        for less in ({"low": low + 1e-4, "high": high}, {"low": low, "high": high - 1e-4}):
            with pytest.raises(Invalid, match="not shown"):
                verified(KINKED.format(rate=rate, **less), count=16, degree=6)
