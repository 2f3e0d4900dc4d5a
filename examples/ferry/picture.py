"""Draws ``ferry.png``: the tube of the crossing under gusts, and the one in a flood. Usage: python picture.py [OUT.png]"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import holdfast
from holdfast.report.paths import paths
from holdfast.report.tube_plot import draw_tubes
from holdfast.report.tube_scene import TubeScene, tube_scene
from holdfast.spec.temporal import Problem

HERE = Path(__file__).parent


def scene(problem: Problem, name: str) -> TubeScene:
    """The tube of one instance, with simulated crossings."""
    tube = holdfast.reach(problem, instance=name)
    one = next(i for i in problem.instances if i.id == name)
    return tube_scene(one, tube, paths(one.loop, tube.initial, tube.end))


def main(out: Path) -> None:
    """Two planes side by side, in few colours, which makes a small file."""
    problem = holdfast.load_problem(HERE / "problem.toml")
    draw_tubes([scene(problem, name) for name in ("gusts", "flood")], out, problem.title)
    with Image.open(out) as picture:
        picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            out, optimize=True
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "ferry.png")
