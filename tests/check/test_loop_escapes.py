"""Escapes: trajectories that leave a set are accepted, others are not."""

from __future__ import annotations

import pytest
from loops import REFUSED, check
from test_loop_proofs import ELLIPSE, INVARIANT, level, linear, moving

BOX = INVARIANT + "{ box = { x = [-1, 1], y = [-1, 1] } }"


def escape(**more):
    found = {
        "property": 0,
        "state": ["1", "1"],
        "disturbances": ["0.6"],
        "parameters": [],
        "side": 0,
        "radius": ["1/100", "1/100"],
        "time": "0.005",
    }
    return found | more


def jump(**more):
    return {"property": 0, "state": ["0.8", "0.8"], "disturbances": [], "parameters": ["0.9"], "side": 0} | more


TRUE = {
    "box": (linear(BOX, "0.6"), escape()),
    "box, the other side": (linear(BOX, "0.6"), escape(state=["-1", "-1"], disturbances=["-0.6"], side=2)),
    "level": (linear(level("Q", "0.0016"), "0.1"), escape(state=["0.04", "0"], disturbances=["0.1"], radius=["1e-3", "1e-3"], time="0x1p-8")),
    "level left through the domain": (linear(level("Q", "7.9"), "1.2"), escape(state=["2", "1.9"], disturbances=["1.2"], side=1, radius=["1/50", "1/50"])),
    "level of a network": (linear(level("V", "0.128"), "0.3"), escape(state=["0.0405", "0.0404"], disturbances=["0.3"], radius=["1e-3", "1e-3"], time="0.002")),
    "ellipsoid": (linear(INVARIANT + ELLIPSE.format(c="1.2", o="0", r="0.25")), escape(state=["0.7", "0"], disturbances=["-0.1"])),
    "condition": (linear(INVARIANT + '{ where = ["x <= 1"] }'), escape(state=["1", "2"], disturbances=["0.1"], time="1/200", radius=["1/50", "1/50"])),
    "image": (moving(INVARIANT + "{ box = { x = [-0.8, 0.8], y = [-0.8, 0.8] } }", p="0.9"), jump()),
}  # fmt: skip
WRONG = {
    "not disturbed enough": (linear(BOX, "0.6"), escape(disturbances=["0.4"])),
    "disturbed beyond its interval": (linear(BOX, "0.6"), escape(disturbances=["0.7"])),
    "outside at the start": (linear(BOX, "0.6"), escape(state=["1.001", "1"])),
    "inside at the end": (linear(BOX, "0.6"), escape(state=["0.999", "1"])),
    "another side": (linear(BOX, "0.6"), escape(side=1)),
    "no such side": (linear(BOX, "0.6"), escape(side=4)),
    "a negative side": (linear(BOX, "0.6"), escape(side=-4)),
    "too fast for its box": (linear(BOX, "0.6"), escape(time="0.1")),
    "time backwards": (linear(BOX, "0.6"), escape(time="-0.005")),
    "a radius of zero": (linear(BOX, "0.6"), escape(radius=["1/100", "0"])),
    "no radius": (linear(BOX, "0.6"), {k: v for k, v in escape().items() if k != "radius"}),
    "no such property": (linear(BOX, "0.6"), escape(property=1)),
    "a property that is true": (linear(BOX, "0.4"), escape(disturbances=["0.4"])),
    "a state of three": (linear(BOX, "0.6"), escape(state=["1", "1", "0"])),
    "not an invariant": (linear(level("Q", "1", 'kind = "attracts"\nfrom = ', '\nto = { where = ["x <= 0.1"] }'), "0.6"), escape()),
    "outside of the domain": (linear(INVARIANT + '{ where = ["x <= 1"] }'), escape(state=["1", "2.5"])),
    "a strict condition at its end": (linear(INVARIANT + '{ where = ["x < 1"] }', "0.6"), escape()),
    "an image inside": (moving(INVARIANT + "{ box = { x = [-0.8, 0.8], y = [-0.8, 0.8] } }", p="0.9"), jump(parameters=["0.5"])),
    "a parameter beyond": (moving(INVARIANT + "{ box = { x = [-0.8, 0.8], y = [-0.8, 0.8] } }", p="0.9"), jump(parameters=["1.0"])),
    "a time of a map": (moving(INVARIANT + "{ box = { x = [-0.8, 0.8], y = [-0.8, 0.8] } }", p="0.9"), jump(time="1")),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_escapes_are_valid(name):
    assert "leaves the set" in check(TRUE[name][0], escape=TRUE[name][1])


@pytest.mark.parametrize("name", WRONG)
def test_other_trajectories_are_refused(name):
    with pytest.raises(REFUSED):
        check(WRONG[name][0], escape=WRONG[name][1])
