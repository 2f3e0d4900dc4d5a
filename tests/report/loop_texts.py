"""Small closed loops whose answers are known, as problem texts that the tests of reports and of the command share."""

from __future__ import annotations

from pathlib import Path

from holdfast.api import load_problem
from holdfast.spec.temporal import Problem

HEAD = 'format = "holdfast-problem/1"\ntitle = "A spiral"\n'
# x' = A x, stable; the unit disc is kept; the box is not (its corners turn out); convergence is known
SPIRAL = (
    HEAD
    + """
[plant]
kind = "ode"
states = ["x", "y"]
disturbances = { w = [-0.01, 0.01] }
derivative = { x = "-x - 2*y + w", y = "2*x - y" }
domain = { x = [-2, 2], y = [-2, 2] }
[functions]
V = { expression = "x^2 + y^2" }
"""
)
DISC = """
[[instance]]
id = "disc"
expected = "verified"
[[instance.property]]
id = "kept"
kind = "invariant"
set = { ellipsoid = { center = [0, 0], P = [[1, 0], [0, 1]], level = 1.0 } }
"""
BOX = """
[[instance]]
id = "box"
expected = "falsified"
[[instance.property]]
id = "left"
kind = "invariant"
set = { box = { x = [-0.5, 0.5], y = [-1, 1] } }
"""
LATER = """
[[instance]]
id = "later"
expected = "open"
plant = { schedule = { s = [[0, 1]] } }
[[instance.property]]
id = "w"
kind = "invariant"
set = { box = { x = [-1, 1], y = [-1, 1] } }
"""
# one step halves both states: the box is kept, a box that is moved is not
HALVED = """
format = "holdfast-problem/1"
[plant]
kind = "map"
states = ["x", "y", "z"]
next = { x = "0.5*x", y = "0.5*y + 0.1*x", z = "0.5*z" }
[[property]]
id = "p"
kind = "invariant"
set = { box = { x = [-1, 1], y = [-1, 1], z = [-1, 1] } }
"""
MOVED = HALVED.replace("x = [-1, 1]", "x = [0.9, 1]")
# three states, so that there are projections and sections
CHAIN = """
format = "holdfast-problem/1"
[plant]
kind = "ode"
states = ["a", "b", "c"]
derivative = { a = "-a", b = "-b", c = "-2*c + 0.5*a" }
domain = { a = [-2, 2], b = [-2, 2], c = [-2, 2] }
[functions]
V = { expression = "a^2 + b^2 + c^2" }
[[instance]]
id = "level"
[[instance.property]]
id = "p"
kind = "attracts"
from = { level = { function = "V", at_most = 1.0 } }
to = { level = { function = "V", at_most = 0.01 } }
[[instance]]
id = "cut"
[[instance.property]]
id = "p"
kind = "invariant"
set = { polytope = { H = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], lower = [-1, -1, -1, -1.5], upper = [1, 1, 1, 1.5] } }
"""


def problem(folder: Path, text: str) -> Problem:
    """The problem that a text is."""
    path = folder / "problem.toml"
    path.write_text(text)
    return load_problem(path)
