"""Sets that are proved to be kept, against trajectories that try to leave them (benchmarks/simulation.py); the simulation itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import scipy.integrate
from onnx import helper, numpy_helper

import holdfast
from holdfast.invariance.sets import inequalities
from holdfast.load.problem import load_problem
from holdfast.loop import close

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
COUNT = 200

HEAD = 'format = "holdfast-problem/1"\n'
DOMAIN = "domain = { x = [-2, 2], y = [-2, 2] }"
CONTROLLER = '[controller]\nnetwork = "net.onnx"\nfeedback = "continuous"\nnetwork_inputs = ["x", "y"]\nplant_inputs = { u = "y0" }\n'
FUNCTION = '[functions]\nV = { expression = "x^2 + x*y + y^2" }\n'


def plant(x: str, y: str, more: str = "", kind: str = "ode", inputs: str = "") -> str:
    key = "derivative" if kind == "ode" else "next"
    return f'[plant]\nkind = "{kind}"\nstates = ["x", "y"]\n{inputs}\n{key} = {{ x = "{x}", y = "{y}" }}\n{more}\n'


def kept(states: str) -> str:
    return f'[[property]]\nid = "kept"\nkind = "invariant"\nset = {states}\n'


SQUARE = "{ box = { x = [-1, 1], y = [-1, 1] } }"
HEXAGON = "{ polytope = { H = [[1, 0], [0, 1], [1, 1]], lower = [-1, -1, -1.5], upper = [1, 1, 1.5] } }"
DISC = "{ ellipsoid = { center = [0, 0], P = [[1, 0.5], [0.5, 1]], level = 1 } }"
ATTRACTED = (
    '[[property]]\nid = "in"\nkind = "attracts"\nfrom = { level = { function = "V", at_most = 1 } }\n'
    'to = { level = { function = "V", at_most = 0.1 } }\n'
)
TRUE = {
    "a box, disturbed": plant("-x + w", "-y + 0.5*x*w", "disturbances = { w = [-0.9, 0.9] }") + kept(SQUARE),
    "a box, for some parameters": plant("-k*x + 0.5*y", "-y", "parameters = { k = [0.6, 2] }") + kept(SQUARE),
    "a hexagon": plant("-x - 0.2*y + w", "-y + 0.1*x^2", "disturbances = { w = [-0.2, 0.2] }") + kept(HEXAGON),
    "an ellipse": plant("y", "-x - y") + kept(DISC),
    "a level set, a network": plant("y", "-x + u", DOMAIN, inputs='inputs = ["u"]') + CONTROLLER + FUNCTION + ATTRACTED,
    "a map": plant("0.9*x + 0.05*y", "0.05*x + 0.9*y + w", "disturbances = { w = [-0.04, 0.04] }", "map")
    + kept(SQUARE),
}
FALSE = {
    "a box, disturbed": plant("-x + w", "-y", "disturbances = { w = [-1.05, 1.05] }") + kept(SQUARE),
    "an ellipse": plant("y", "-x + 0.02*y") + kept(DISC),
    "a map": plant("0.99*x + 0.05*y", "0.9*y", "", "map") + kept(SQUARE),
}


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch):
    if not (BENCHMARKS / "simulation.py").is_file():
        pytest.skip("no benchmarks beside the tests")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import simulation

    return simulation


def written(folder: Path, text: str) -> Path:
    """A problem file, with a network u = -tanh(2 y) beside it."""
    weights = [np.array([[0.0, 2.0]], np.float32), np.array([[-1.0]], np.float32)]
    constants = [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)]
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["a"], transB=1),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Gemm", ["b", "w1"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, k]) for name, k in (("x", 2), ("y", 1))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "net.onnx")
    path = folder / "problem.toml"
    path.write_text(HEAD + text)
    return path


@pytest.mark.parametrize("name", TRUE)
def test_no_trajectory_leaves_a_certified_set(simulation, tmp_path: Path, name: str) -> None:
    path = written(tmp_path, TRUE[name])
    (result,) = holdfast.verify_problem(path, timeout=60, workers=1).values()
    assert result.verdict.value == "verified", result.detail
    import trajectories

    (instance,) = load_problem(path).instances
    found = list(trajectories.simulated(close(instance.loop), instance.properties[0], COUNT))
    assert sum(left.count for _, left, _, _ in found) >= COUNT
    assert all(left.left == 0 for _, left, _, _ in found)
    assert all(unreached in ("", "0") for _, _, unreached, _ in found)


@pytest.mark.parametrize("name", FALSE)
def test_trajectories_do_leave_other_sets(simulation, tmp_path: Path, name: str) -> None:
    (instance,) = load_problem(written(tmp_path, FALSE[name])).instances
    loop = close(instance.loop)
    simulator = simulation.Simulator(loop, inequalities(instance.properties[0].states, loop, "set"))
    starts = simulator.starts(COUNT)
    assert (simulator.over(starts) <= 0).all()
    found = simulation.count_left(simulator, simulator.paths(starts, 3.0), 3.0)
    assert found.left > 0 and found.worst is not None


def test_starts_lie_in_the_set_and_next_to_its_boundary(simulation, tmp_path: Path) -> None:
    for k, text in enumerate(TRUE.values()):
        folder = tmp_path / str(k)
        folder.mkdir()
        (instance,) = load_problem(written(folder, text)).instances
        loop = close(instance.loop)
        simulator = simulation.Simulator(loop, inequalities(instance.properties[0].states, loop, "set"))
        over = simulator.over(simulator.starts(COUNT))
        assert (over <= 0).all() and (over > -1e-6).sum() >= COUNT // 3


def test_steps_against_another_integrator(simulation, tmp_path: Path) -> None:
    (instance,) = load_problem(written(tmp_path, TRUE["a level set, a network"])).instances
    loop = close(instance.loop)
    states = inequalities(instance.properties[0].states, loop, "set")
    simulator = simulation.Simulator(loop, states)
    starts = simulator.starts(20)
    coarse = simulator.paths(starts, 5.0)
    fine = simulator.finer(coarse, np.arange(len(starts)), 5.0)
    none = np.zeros((1, 0))
    for k, start in enumerate(starts):
        exact = scipy.integrate.solve_ivp(
            lambda _, x: simulator.flow(x[None], none)[0], (0, 5), start, "DOP853", rtol=1e-12, atol=1e-13
        ).y[:, -1]
        assert abs(coarse.end[k] - exact).max() < 1e-5
        assert abs(fine.end[k] - exact).max() < 1e-8
