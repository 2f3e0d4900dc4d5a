"""Writes the properties of the pendulum controller; each file describes the counterexamples.

X_0 is the angle (rad), X_1 the angular velocity (rad/s), Y_0 the torque (N m).
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent

HEAD = "; {comment}\n\n(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n\n"
BOUNDS = "(assert (>= X_{i} {low}))\n(assert (<= X_{i} {high}))\n"

# name, comment, box of angle and velocity, condition of a counterexample, what is expected
CASES = (
    (
        "bounded",
        "the torque never exceeds 2.05 N m in size",
        (("-1.0", "1.0"), ("-2.0", "2.0")),
        "(or (and (>= Y_0 2.05)) (and (<= Y_0 -2.05)))",
        "unsat",
    ),
    (
        "saturated",
        "the torque never exceeds 2 N m in size, the saturation of the law it imitates",
        (("-1.0", "1.0"), ("-2.0", "2.0")),
        "(or (and (>= Y_0 2.0)) (and (<= Y_0 -2.0)))",
        "sat",
    ),
    (
        "pushes_back",
        "leaning and falling to the positive side: the torque is below -1.95 N m",
        (("0.3", "1.0"), ("0.0", "2.0")),
        "(>= Y_0 -1.95)",
        "unsat",
    ),
    (
        "sign",
        "leaning to the positive side, however little above 0.05 rad, and not returning: the torque is negative",
        (("0.05", "1.0"), ("0.0", "2.0")),
        "(>= Y_0 0.0)",
        "unsat",
    ),
)

# Inputs and outputs in one inequality: near the origin the network is the linear law up to 0.02 N m.
NEAR_LAW = """\
; near the origin the torque differs from -(8 angle + 3 velocity) by less than 0.02 N m
(vnnlib-version <2.0>)

(declare-network controller
  (declare-input X real [1, 2])
  (declare-output Y real [1, 1])
)

(assert (and (>= X[0,0] -0.1) (<= X[0,0] 0.1)))
(assert (and (>= X[0,1] -0.2) (<= X[0,1] 0.2)))
(assert (or
  (>= (+ Y[0,0] (* 8.0 X[0,0]) (* 3.0 X[0,1])) 0.02)
  (<= (+ Y[0,0] (* 8.0 X[0,0]) (* 3.0 X[0,1])) -0.02)
))
"""


def main() -> None:
    """Writes the property files, ``instances.csv`` and ``expected.csv``."""
    rows = []
    for name, comment, box, condition, verdict in CASES:
        bounds = "".join(BOUNDS.format(i=i, low=low, high=high) for i, (low, high) in enumerate(box))
        text = HEAD.format(comment=comment) + bounds + f"\n(assert {condition})\n"
        (HERE / f"{name}.vnnlib").write_text(text)
        rows.append((name, verdict))
    (HERE / "near_law.vnnlib").write_text(NEAR_LAW)
    rows.append(("near_law", "unsat"))
    (HERE / "instances.csv").write_text("".join(f"pendulum.onnx,{name}.vnnlib,60\n" for name, _ in rows))
    expected = "".join(f"pendulum.onnx,{name}.vnnlib,{verdict}\n" for name, verdict in rows)
    (HERE / "expected.csv").write_text("onnx,vnnlib,verdict\n" + expected)


if __name__ == "__main__":
    main()
