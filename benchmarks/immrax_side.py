"""The other side of peer_immrax.py: runs under a Python that has immrax, reads one JSON problem, writes one JSON answer.

The embedding test of Harapanahalli, Coogan, PMLR 331 (2026): y = H (x - c) as new coordinates, linear bounds of the network composed
with the inverse, the interaction-aware bound of each face (`NNCEmbeddingSystem`); kept if lower faces flow up and upper ones down.
"""

import json
import sys
import time

import immrax as irx
import jax
import jax.numpy as jnp
import numpy as np
from jax.numpy import cos, sin, tanh

jax.config.update("jax_enable_x64", True)


def leader_follower(x, u, w):
    """Right side of the problem file leader_follower."""
    px1, vx1, py1, vy1, px2, vx2, py2, vy2 = x
    ax, ay = 6 * (px1 - px2) + 7 * (vx1 - vx2), 6 * (py1 - py2) + 7 * (vy1 - vy2)
    lead = [20 * tanh(u[0] / 20) + w[0], 20 * tanh(u[1] / 20) + w[1]]
    follow = [20 * tanh(ax / 20) + w[2], 20 * tanh(ay / 20) + w[3]]
    return jnp.array([vx1, lead[0], vy1, lead[1], vx2, follow[0], vy2, follow[1]])


def segway(x, u, w):
    """Right side of the problem file segway."""
    phi, v, om = x
    c1, c2, c3, c4, c5, d1, d2, d3, d4, d5, b = w
    force = u[0]
    top = cos(phi) * (-c1 * force + c2 * v + 9.8 * sin(phi)) - c3 * force + c4 * v - c5 * om**2 * sin(phi)
    turn = (d1 * force - d2 * v) * cos(phi) + d3 * force - d4 * v - sin(phi) * (d5 + om**2 * cos(phi))
    return jnp.array([om, top / (cos(phi) - b), turn / (cos(phi) ** 2 - b)])


PLANTS = {"leader_follower": leader_follower, "segway": segway}


class Shifted(irx.OpenLoopSystem):
    """A plant around a point."""

    def __init__(self, right_side, center):
        self.evolution, self.xlen = "continuous", len(center)
        self.right_side, self.center = right_side, center

    def f(self, t, x, u, w):
        """The right side."""
        return self.right_side(x.ravel() + self.center, u, w)


def embedding(question):
    """The embedding system in coordinates y = H (x - c)."""
    H, center = jnp.array(question["H"]), jnp.array(question["center"])
    back = jnp.linalg.inv(H)
    (W, b), *rest = [(jnp.array(W), jnp.array(b)) for W, b in question["layers"]]
    W = jnp.pad(W, ((0, 0), (0, len(center) - W.shape[1])))  # its linear bounds know no slices: the choice of inputs,
    layers = [(W @ back, W @ center + b), *rest]  # the center and the basis become part of the first layer

    def network(y):
        for k, (W, b) in enumerate(layers):
            y = W @ y + b
            y = jax.nn.relu(y) if k + 1 < len(layers) else y
        return y

    network.out_len = len(layers[-1][1])
    lifted = irx.LiftedSystem(Shifted(PLANTS[question["problem"]], center), H, back)
    return irx.NNCEmbeddingSystem(irx.NNCSystem(lifted, network), "crown", "local", "local")


def refuted(system, question, flow, below, above, count=2000):
    """How many faces have a sampled flow outside of the bound (beyond 1e-9), disturbances at their corners."""
    rng, n = np.random.default_rng(0), len(below)
    low, high = np.array(question["w_low"]), np.array(question["w_high"])
    network, plant = system.sys.control, system.sys.olsystem
    moved = jax.jit(jax.vmap(lambda y, w: plant.f(0.0, y, network(y), w)))
    found = 0
    for k in range(2 * n):
        y = rng.uniform(below, above, (count, n))
        y[:, k % n] = (below if k < n else above)[k % n]
        value = np.asarray(moved(jnp.array(y), jnp.array(np.where(rng.random((count, len(low))) < 0.5, low, high))))
        found += bool((value[:, k % n] < flow[k] - 1e-9).any() if k < n else (value[:, k % n] > flow[k] + 1e-9).any())
    return found


def main():
    """One answer per scale, and the times of the first and of later calls."""
    question = json.load(sys.stdin)
    n, q = len(question["H"]), len(question["w_low"])
    system = embedding(question)
    size = 1 + n + len(question["layers"][-1][1]) + q
    order, corner = irx.standard_permutation(size), irx.bot_corner(size)
    low, high = np.array(question["w_low"]), np.array(question["w_high"])
    if question["disturbances"] == "corners":  # every corner as a point
        which = (np.arange(2**q)[:, None] >> np.arange(q)) & 1
        parts = np.where(which, high, low)
        parts = np.unique(np.concatenate([parts, parts], axis=1), axis=0)
    else:  # halves of every interval, as published; the whole box where it is not wide
        cuts = 2 if question["disturbances"] == "halves" else 1
        grid = np.stack(np.meshgrid(*[np.arange(cuts)] * q, indexing="ij"), -1).reshape(-1, q)
        step = (high - low) / cuts
        parts = np.concatenate([low + grid * step, low + (grid + 1) * step], axis=1)
    parts = jnp.array(parts)

    @jax.jit
    def faces(y):
        found = jax.vmap(lambda w: system.E(0.0, y, irx.ut2i(w), permutations=order, corners=corner))(parts)
        return jnp.concatenate([found[:, :n].min(0), found[:, n:].max(0)])

    below, above = np.array(question["lower"]), np.array(question["upper"])
    start = time.perf_counter(), time.process_time()
    faces(jnp.concatenate([below, above])).block_until_ready()
    answer = {
        "first": time.perf_counter() - start[0],
        "first_cpu": time.process_time() - start[1],
        "kept": {},
        "wrong": {},
    }
    spent = []
    for scale in question["scales"]:
        start = time.perf_counter(), time.process_time()
        flow = np.asarray(faces(jnp.concatenate([scale * below, scale * above])))
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
        answer["kept"][str(scale)] = bool((flow[:n] >= 0).all() and (flow[n:] <= 0).all())
        answer["wrong"][str(scale)] = refuted(system, question, flow, scale * below, scale * above)
    answer["again"], answer["again_cpu"] = (float(v) for v in np.median(spent, axis=0))
    answer["version"] = str(getattr(irx, "__version__", ""))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
