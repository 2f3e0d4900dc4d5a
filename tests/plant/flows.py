"""Plants whose solutions are known, and Taylor-series integration in ball arithmetic for those whose are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import flint
import numpy as np
from taylor_points import BITS, ball

from holdfast.bounds.bounder import flat_problem
from holdfast.bounds.enclosure import Problem
from holdfast.load.problem import load_problem
from holdfast.rigor import FLOAT64
from holdfast.spec.plant import LoopData

Arb = flint.arb
Solution = Callable[[Sequence[Arb], Arb], list[Arb]]  # start, time -> state


def loop_of(folder: Path, derivative: Mapping[str, str], **more: str) -> LoopData:
    """The loop without controller of a problem file with these right sides; ``more``: further keys of [plant]."""
    rows = ", ".join(f'{name} = "{text}"' for name, text in derivative.items())
    keys = "\n".join(f"{key} = {text}" for key, text in more.items())
    initial = "\n".join(f"{name} = [0, 1]" for name in derivative)
    text = f"""format = "holdfast-problem/1"
[plant]
kind = "ode"
states = {list(derivative)}
derivative = {{ {rows} }}
{keys}
[initial]
{initial}
[horizon]
time = 1
"""
    path = folder / "problem.toml"
    path.write_text(text.replace("'", '"'))
    (instance,) = load_problem(path).instances
    return instance.loop


def problem_of(data: LoopData) -> Problem:
    """Right sides that read all signals."""
    return flat_problem(data.plant.dynamics, FLOAT64)


# ---- one state, solved in closed form: right side, solution, range of starts, longest time ----

SCALAR: dict[str, tuple[str, Callable[[Arb, Arb], Arb], tuple[float, float], float]] = {
    "growth": ("x", lambda x, t: x * t.exp(), (-2, 2), 0.5),
    "square": ("x^2", lambda x, t: x / (1 - x * t), (-1, 1), 0.4),
    "cube": ("-x^3", lambda x, t: x / (1 + 2 * x * x * t).sqrt(), (-1.5, 1.5), 0.3),
    "fifth": ("x^5", lambda x, t: x / (1 - 4 * x**4 * t).root(4), (0.2, 0.9), 0.1),
    "logistic": ("x*(1 - x)", lambda x, t: x * t.exp() / (1 + x * (t.exp() - 1)), (0.1, 0.9), 1.0),
    "exp": ("exp(-x)", lambda x, t: (x.exp() + t).log(), (-1, 1), 0.3),
    "log": ("x*log(x)", lambda x, t: (x.log() * t.exp()).exp(), (0.4, 2.0), 0.3),
    "sqrt": ("sqrt(x)", lambda x, t: (x.sqrt() + t / 2) ** 2, (0.5, 2.0), 0.5),
    "reciprocal": ("1/x", lambda x, t: (x * x + 2 * t).sqrt(), (0.6, 2.0), 0.2),
    "negative reciprocal": ("1/x", lambda x, t: -((x * x + 2 * t).sqrt()), (-2.0, -0.6), 0.2),
    "tanh": ("tanh(x)", lambda x, t: (x.sinh() * t.exp()).asinh(), (-1, 1), 0.4),
    "tan": ("tan(x)", lambda x, t: (x.sin() * t.exp()).asin(), (-0.6, 0.6), 0.3),
    "sin": ("sin(x)", lambda x, t: 2 * ((x / 2).tan() * t.exp()).atan(), (-1.5, 1.5), 0.5),
    "cos": ("cos(x)", lambda x, t: 2 * ((x / 2 + Arb.pi() / 4).tan() * t.exp()).atan() - Arb.pi() / 2, (-1, 1), 0.5),
    "one": ("1 + x^2", lambda x, t: (x.atan() + t).tan(), (-0.5, 0.5), 0.3),
    "tenth": ("0.1*x + 0.3", lambda x, t: (x + 3) * (t / 10).exp() - 3, (-1, 1), 2.0),
    "still": ("0*x", lambda x, t: x, (-1, 1), 5.0),
    "clock": ("1", lambda x, t: x + t, (-1, 1), 5.0),
    "away from a kink": ("-abs(x)", lambda x, t: x * (-t).exp(), (0.5, 1), 0.5),
}  # fmt: skip

# y' = x g(x) with x' = x: y moves by G(x e^t) - G(x)
ANTIDERIVATIVES: dict[str, Callable[[Arb], Arb]] = {
    "sin(x)": lambda s: -s.cos(),
    "cos(x)": lambda s: s.sin(),
    "tan(x)": lambda s: -s.cos().log(),
    "exp(x)": lambda s: s.exp(),
    "log(x)": lambda s: s * s.log() - s,
    "sqrt(x)": lambda s: s * s.sqrt() * 2 / 3,
    "1/x": lambda s: s.log(),
    "tanh(x)": lambda s: s.cosh().log(),
    "sigmoid(x)": lambda s: (1 + s.exp()).log(),
    "atan(x)": lambda s: s * s.atan() - (1 + s * s).log() / 2,
    "x^2": lambda s: s**3 / 3,
    "x^3": lambda s: s**4 / 4,
    "x^7": lambda s: s**8 / 8,
}


def linear(matrix: np.ndarray, start: Sequence[Arb], time: Arb) -> list[Arb]:
    """exp(A t) x."""
    n = len(matrix)
    with flint.ctx.workprec(BITS):
        A = flint.arb_mat(n, n, [ball(float(a)) * time for a in matrix.reshape(-1)])
        x = A.exp() * flint.arb_mat(n, 1, list(start))
        return [x[i, 0] for i in range(n)]


def integrated(
    field: Callable[[Sequence[flint.arb_series]], Sequence[flint.arb_series]],
    start: Sequence[Arb],
    time: Fraction,
    order: int = 24,
    steps: int = 8,
) -> list[Arb]:
    """A solution by Taylor's series of high order, in many digits; its truncation is far below 1e-30 for the plants of the tests."""
    with flint.ctx.workprec(BITS):
        x = [Arb(s.mid()) for s in start]
        h = ball(time / steps)
        for _ in range(steps):
            series = [flint.arb_series([v]) for v in x]
            for k in range(1, order + 1):
                flint.ctx.cap = k
                slope = field(series)
                flint.ctx.cap = k + 1
                series = [
                    flint.arb_series([v] + [s[j] / (j + 1) for j in range(k)]) for v, s in zip(x, slope, strict=True)
                ]
            x = [Arb(sum((s[j] * h**j for j in range(order + 1)), Arb(0)).mid()) for s in series]
        return x
