"""Falsification: what is called falsified is violated by the exact trajectory, and what holds never is."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import flint
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from holdfast.load.problem import load_problem
from holdfast.reachability.claim import claim_of
from holdfast.reachability.falsify import Found, falsify
from holdfast.reachability.robustness import Robustness
from holdfast.reachability.simulate import Simulator, Trajectories, horizon_of
from holdfast.reachability.witness import shortest
from holdfast.spec.region import Box
from holdfast.spec.temporal import Instance
from holdfast.verdict import Violation

PROBLEMS = Path(os.environ.get("HOLDFAST_BENCHMARKS", ""), "closedloop")
HEAD = 'format = "holdfast-problem/1"\n'
SPRING = """[plant]
kind = "ode"
states = ["x", "v"]
derivative = { x = "v", v = "-x" }
[initial]
x = [1.0, 1.1]
v = [0.0, 0.1]
[horizon]
time = 2
"""
CLOCK = """[plant]
kind = "ode"
states = ["x"]
derivative = { x = "1" }
[initial]
x = [0.0, 0.1]
[horizon]
time = 2
"""
PUSHED = """[plant]
kind = "ode"
states = ["x"]
disturbances = { w = [-1, 1] }
derivative = { x = "w" }
[initial]
x = 0
[horizon]
time = 2
"""
GROWTH = """[plant]
kind = "ode"
states = ["x"]
parameters = { k = [0.9, 1.1] }
derivative = { x = "k*x" }
[initial]
x = [1, 1.2]
[horizon]
time = 1
"""
STILL = """[plant]
kind = "map"
states = ["x"]
next = { x = "x" }
[initial]
x = [0, 1]
[horizon]
steps = 3
"""


def instance(tmp_path: Path, plant: str, *properties: str) -> Instance:
    path = tmp_path / "problem.toml"
    tables = [f'[[property]]\nid = "p{k}"\n{text}\n' for k, text in enumerate(properties)]
    path.write_text(HEAD + plant + "".join(tables))
    return load_problem(path).instances[0]


def search(one: Instance, **options: object) -> Found:
    return falsify(one, claim_of(one), **({"seed": 0, "seconds": 20.0} | options))  # type: ignore[arg-type]


def proved(one: Instance) -> Violation:
    found = search(one)
    assert found.violation is not None, found.text
    start = found.violation.state
    assert one.initial is not None and one.initial.contains(start)  # exactly
    assert one.loop.plant.parameters.contains(found.violation.parameters)
    assert all(one.loop.plant.disturbances.contains(w) for _, w in found.violation.disturbances)
    return found.violation


def stl(formula: str) -> str:
    return f'kind = "stl"\nformula = "{formula}"'


def network(path: Path, weights: list[list[float]]) -> str:
    """y = W x, as a file."""
    w = np.array(weights)
    ends = [
        helper.make_tensor_value_info(n, onnx.TensorProto.DOUBLE, [1, s])
        for n, s in zip("xy", w.shape[::-1], strict=True)
    ]
    nodes = [helper.make_node("Gemm", ["x", "W"], ["y"], transB=1)]
    graph = helper.make_graph(nodes, "gain", ends[:1], ends[1:], [numpy_helper.from_array(w, "W")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path.name


def test_the_exact_solution_is_enclosed_and_violates(tmp_path: Path) -> None:
    found = proved(instance(tmp_path, SPRING, 'kind = "always"\nset = { where = ["x <= 1.1"] }'))
    x0, v0 = (flint.arb(flint.fmpq(Fraction(v).numerator, Fraction(v).denominator)) for v in found.state)
    t = flint.arb(found.time)
    x, v = x0 * t.cos() + v0 * t.sin(), v0 * t.cos() - x0 * t.sin()
    for exact, low, high in zip((x, v), found.low, found.high, strict=True):
        assert exact > low and exact < high
    assert x - flint.arb("1.1") >= found.margin > 0 and not found.holds


@pytest.mark.parametrize(
    "plant, true, false",
    [
        (SPRING, 'kind = "always"\nset = { where = ["x <= 1.105"] }', 'kind = "always"\nset = { where = ["x <= 1.104"] }'),
        (SPRING, 'kind = "at"\ntime = 2\nset = { where = ["x >= -0.46"] }', 'kind = "at"\ntime = 2\nset = { where = ["x >= -0.45"] }'),
        (CLOCK, 'kind = "eventually"\nset = { where = ["x >= 2"] }', 'kind = "eventually"\nset = { where = ["x >= 2.05"] }'),
        (CLOCK, 'kind = "eventually"\nset = { where = ["x >= 1"] }', 'kind = "eventually"\nduring = [0, 0.5]\nset = { where = ["x >= 0.51"] }'),
        (
            CLOCK,
            'kind = "until"\nfirst = { where = ["x <= 1"] }\nthen = { where = ["x >= 0.9"] }',
            'kind = "until"\nfirst = { where = ["x <= 1"] }\nthen = { where = ["x >= 1.05"] }',
        ),
        (CLOCK, 'kind = "at"\ntime = 1\nnot_set = { box = { x = [1.11, 2] } }', 'kind = "at"\ntime = 1\nnot_set = { box = { x = [1.04, 1.06] } }'),
        (CLOCK, stl("G[0,1](F[0,1](x >= 1))"), stl("G[0,1](F[0,0.5](x >= 1))")),
        (CLOCK, stl("!(G[0,2](x <= 2)) | F[0,2](x >= 2)"), stl("!(x <= 0.05) & F[0,2](x >= 2)")),
        (GROWTH, 'kind = "always"\nset = { where = ["x <= 3.61"] }', 'kind = "always"\nset = { where = ["x <= 3.6"] }'),
        (PUSHED, stl("G[1,1](x <= 1) | G[2,2](x >= 0)"), stl("G[1,1](x <= 0.9) | G[2,2](x >= 0.1)")),
        (STILL, 'kind = "always"\nset = { where = ["x - x^2 <= 0.25001"] }', 'kind = "at"\nstep = 3\nset = { where = ["x - x^2 <= 0.2499"] }'),
    ],
)  # fmt: skip
def test_what_holds_is_not_falsified_and_what_does_not_is(tmp_path: Path, plant: str, true: str, false: str) -> None:
    assert search(instance(tmp_path, plant, true), seconds=3).violation is None
    proved(instance(tmp_path, plant, false))
    assert proved(instance(tmp_path, plant, true, false)).property == "p1"


def test_a_margin_of_zero_falsifies_nothing(tmp_path: Path) -> None:
    for claim in ("x - x^2 <= 0.25", "x <= 1"):
        found = search(instance(tmp_path, STILL, f'kind = "always"\nset = {{ where = ["{claim}"] }}'), seconds=3)
        assert found.violation is None
    strict = 'kind = "always"\nset = { where = ["x < 1"] }'  # false at 1, exactly
    assert search(instance(tmp_path, STILL, strict), seconds=3).margin <= 0


def test_disturbances_switch(tmp_path: Path) -> None:
    found = proved(instance(tmp_path, PUSHED, stl("G[1,1](x <= 0.9) | G[2,2](x >= 0.1)")))
    times = [Fraction(t) for t, _ in found.disturbances] + [Fraction(2)]
    x = Fraction(0)
    at: dict[Fraction, Fraction] = {}
    for k, (_, (w,)) in enumerate(found.disturbances):
        x += Fraction(w) * (times[k + 1] - times[k])
        at[times[k + 1]] = x
    assert at[Fraction(1)] > Fraction("0.9") and at[Fraction(2)] < Fraction("0.1")


def test_unknown_constants_are_part_of_the_witness(tmp_path: Path) -> None:
    found = proved(instance(tmp_path, GROWTH, 'kind = "at"\ntime = 1\nset = { where = ["x <= 3.6"] }'))
    k, x = (
        flint.arb(flint.fmpq(Fraction(v).numerator, Fraction(v).denominator)) for v in (*found.parameters, *found.state)
    )
    assert x * k.exp() > flint.arb("3.6")


def test_a_state_that_escapes_in_finite_time(tmp_path: Path) -> None:
    plant = CLOCK.replace('"1"', '"x^2"').replace("[0.0, 0.1]", "[1.0, 1.1]")
    found = proved(instance(tmp_path, plant, 'kind = "always"\nset = { where = ["x <= 20"] }'))
    x = Fraction(found.state[0])
    assert found.time < 1 / x and x / (1 - x * Fraction(found.time)) > 20


def test_a_sampled_loop(tmp_path: Path) -> None:
    gain = network(tmp_path / "gain.onnx", [[-1.0]])
    plant = f"""[plant]
kind = "ode"
states = ["x"]
inputs = ["u"]
derivative = {{ x = "u" }}
[controller]
network = "{gain}"
feedback = "sampled"
period = 0.1
network_inputs = ["x"]
plant_inputs = {{ u = "y0" }}
[initial]
x = [0.5, 1]
[horizon]
steps = 10
"""
    found = proved(instance(tmp_path, plant, 'kind = "at"\nstep = 10\nset = { where = ["x <= 0.348"] }'))
    x = Fraction(found.state[0]) * Fraction(9, 10) ** 10
    assert x > Fraction("0.348") and Fraction(found.low[0]) <= x <= Fraction(found.high[0])
    assert x - Fraction("0.348") >= Fraction(found.margin)
    above = 'kind = "at"\nstep = 10\nset = { where = ["x <= 0.349"] }'
    assert search(instance(tmp_path, plant, above), seconds=3).violation is None


SELECTING = """[plant]
kind = "map"
states = ["x"]
inputs = ["u"]
next = {{ x = "x + u" }}
[controller]
network = "{gain}"
network_inputs = ["x"]
select = {{ by = "argmax", first = 0, rows = [ [ {{ after = 1, u = 5 }}, {{ u = 1 }} ], {{ u = -1 }} ] }}
[initial]
x = {x}
[horizon]
steps = 3
"""


def test_a_selecting_controller_with_memory(tmp_path: Path) -> None:
    gain = network(tmp_path / "gain.onnx", [[-1.0], [1.0]])  # row 0 below 0, row 1 above
    one = instance(tmp_path, SELECTING.format(gain=gain, x="0.5"), 'kind = "always"\nset = { where = ["x <= 4"] }')
    simulated = Simulator(one.loop, horizon_of(one)).run(np.array([[0.5]]), np.zeros((1, 0)), np.zeros((1, 1, 0)))
    assert simulated.states[:, 0, 0].tolist() == [0.5, -0.5, 4.5, 3.5]
    assert simulated.rows is not None and simulated.rows[:, 0].tolist() == [0, 1, 0, 1]
    assert proved(one).time == 2.0


def test_a_tie_that_decides_falsifies_nothing(tmp_path: Path) -> None:
    gain = network(tmp_path / "gain.onnx", [[-1.0], [1.0]])
    for claim in ("x <= 0", "x >= 0"):
        text = f'kind = "at"\nstep = 1\nset = {{ where = ["{claim}"] }}'
        assert search(instance(tmp_path, SELECTING.format(gain=gain, x="0"), text), seconds=3).violation is None


def test_the_same_seed_finds_the_same(tmp_path: Path) -> None:
    one = instance(tmp_path, SPRING, 'kind = "always"\nset = { where = ["x <= 1.1"] }')
    first, second = search(one), search(one)
    assert first.violation == second.violation and first.margin == second.margin


def test_a_schedule_and_a_disturbance_are_simulated_as_they_are_meant(tmp_path: Path) -> None:
    plant = PUSHED.replace("disturbances", "schedule = { r = [[0, 1], [0.55, -1]] }\ndisturbances").replace(
        '"w"', '"w + r"'
    )
    one = instance(tmp_path, plant)
    simulator = Simulator(one.loop, Fraction(2))
    w = np.zeros((simulator.pieces, 1, 1))
    w[: simulator.pieces // 4] = 1.0
    found = simulator.run(np.zeros((1, 1)), np.zeros((1, 0)), w)
    for t, x in zip(found.times, found.states[:, 0, 0], strict=True):
        exact = min(t, Fraction(1, 2)) + min(t, Fraction(11, 20)) - max(t - Fraction(11, 20), Fraction(0))
        assert abs(Fraction(float(x)) - exact) < Fraction(1, 10**12)  # a simulation claims nothing


def test_robustness_follows_its_definition(tmp_path: Path) -> None:
    """Against the definition written out, on signals that are all grid."""
    rng = np.random.default_rng(3)
    times = tuple(Fraction(k) for k in range(9))
    plant = (
        STILL.replace('states = ["x"]', 'states = ["x", "y"]')
        .replace('x = "x"', 'x = "x", y = "y"')
        .replace("x = [0, 1]", "x = 0\ny = 0")
    )
    plant = plant.replace("steps = 3", "steps = 8")
    paths = rng.integers(-5, 6, size=(9, 40, 2)).astype(float)
    trajectories = Trajectories(times, paths)
    x, y = paths[:, :, 0], paths[:, :, 1]

    def until(i: int, a: int, b: int) -> np.ndarray:  # of y > 0 by x < 0, times a to b from i on
        options = [
            np.minimum(y[j], np.min([-x[k] for k in range(i, j)], axis=0, initial=np.inf))
            for j in range(i + a, i + b + 1)
        ]
        return np.max(options, axis=0)

    expected = {
        "G[1,4](x > 0)": x[1:5].min(0),
        "F[2,7](!(x <= y))": (x - y)[2:8].max(0),
        "(x < 0) U[1,5] (y > 0)": until(0, 1, 5),
        "G[0,3]((x < 0) U[0,2] (y > 0))": np.min([until(i, 0, 2) for i in range(4)], axis=0),
        "F[0,3](G[1,2](x >= 0) & y <= 1) | x > 100": np.max(
            [np.maximum(np.minimum(np.minimum(x[i + 1], x[i + 2]), 1 - y[i]), x[0] - 100) for i in range(4)], axis=0
        ),
    }
    for text, values in expected.items():
        one = instance(tmp_path, plant, stl(text))
        measure = Robustness(claim_of(one), one.loop)
        measure.margins(trajectories, np.zeros((40, 0)))
        found = measure.margins(trajectories, np.zeros((40, 0)))
        assert (np.sign(found) == np.sign(values)).all(), text  # units of atoms differ, signs do not


def test_short_numbers_stay_in_the_box() -> None:
    box = Box.of(["0.1", "1/3"], ["0.3", "2/3"])
    for near, i in ((Fraction(1, 7), 0), (Fraction(2, 5), 1), (Fraction(1, 3), 1)):
        low, high = box.exact_lower(i), box.exact_upper(i)
        text = shortest(near, max(low, near - Fraction(1, 100)), min(high, near + Fraction(1, 100)))
        assert (low <= Fraction(text) <= high and len(text) <= 4) or near == low
    assert shortest(Fraction(1, 3), Fraction(1, 3), Fraction(1, 3)) == "1/3"


@pytest.mark.skipif(not PROBLEMS.is_dir(), reason="HOLDFAST_BENCHMARKS names no folder with closedloop")
@pytest.mark.parametrize(
    "problem, name", [("reachnn_b4", "tanh"), ("single_pendulum", "reach-2020"), ("vcas", "worst-22.5")]
)
def test_benchmarks(problem: str, name: str) -> None:
    instances = load_problem(PROBLEMS / problem / "problem.toml").instances
    proved(next(i for i in instances if i.id == name))
