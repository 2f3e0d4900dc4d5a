"""Draws the gallery: the tube of every problem file here, as ``NAME.png`` beside it. Usage: python picture.py [NAME...]"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

import holdfast
from holdfast.report.paths import paths
from holdfast.report.tube_plot import draw_tubes
from holdfast.report.tube_scene import tube_scene

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """What ``holdfast reach NAME.toml --plot NAME.png`` does, and fewer colours, which makes small files."""
    for file in sorted(HERE.glob("*.toml")):
        if names and file.stem not in names:
            continue
        problem = holdfast.load_problem(file)
        (one,) = problem.instances
        tube = holdfast.reach(problem)
        out = file.with_suffix(".png")
        draw_tubes([tube_scene(one, tube, paths(one.loop, tube.initial, tube.end))], out, problem.title)
        with Image.open(out) as picture:
            picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
                out, optimize=True
            )


if __name__ == "__main__":
    main(sys.argv[1:])
