"""Ranges and linear bounds of random networks against exact values (balls of 300 bits) and float32 executions; no tolerance."""

from fractions import Fraction

import flint
import numpy as np
import pytest
from flint import arb

from holdfast_check.arithmetic import Limit, dot, plus
from holdfast_check.bounds import forward, graph_of, least, narrow, substitute
from holdfast_check.forms import Forms
from holdfast_check.linear import Dense, Gather, Sum
from holdfast_check.network import Node
from holdfast_check.relaxations import line

FUNCTIONS = {
    "relu": (), "leaky_relu": (0.1,), "abs": (), "clip": (-1.0, 1.0), "sigmoid": (), "tanh": (), "exp": (), "square": (), "power": (3.0,),
    "softplus": (), "sin": (), "cos": (),
}  # fmt: skip
EXACT = {"relu", "abs", "clip"}


@pytest.fixture(autouse=True)
def _arithmetic():
    with np.errstate(all="ignore"):  # as `prove` does
        yield
    flint.ctx.prec = 53


def dense(j: int, m: int, n: int, rng: np.random.Generator, scale: float = 1.0, doubt: float = 0.0) -> Node:
    w, b = (rng.normal(size=s).astype(np.float32).astype(float) * scale / n**0.5 for s in ((m, n), m))
    w[rng.uniform(size=w.shape) < 0.1] = 0
    radii = Dense(weights=np.full((m, n), doubt), bias=np.full(m, doubt), terms=n, back=m) if doubt else None
    return Node("linear", (j,), m, linear=Dense(weights=w, bias=b, terms=n, back=m, doubt=radii))


def network(kinds: list[str], rng: np.random.Generator, width: int = 6, doubt: float = 0.0) -> list[Node]:
    """Two inputs, joined; layers with sums of two branches; the last but one is a product; then three margins."""
    nodes = [Node("input", (), 2, rounds=False), Node("input", (), 1, start=2, rounds=False)]
    index = np.array([2, 0, 1, -1, 0])
    nodes.append(
        Node(
            "linear",
            (0, 1),
            5,
            linear=Gather(sizes=(2, 1), index=index, back=2, exact=True, bias=np.array([0, 0, 0, 0.5, 0])),
            rounds=False,
        )
    )
    nodes.append(dense(2, width, 5, rng, doubt=doubt))
    for kind in kinds:
        before = len(nodes) - 1
        nodes.append(Node(kind, (before,), width, parameters=FUNCTIONS[kind], rounds=kind not in EXACT))
        nodes.append(dense(before + 1, width, width, rng, 0.7, doubt))
        nodes.append(Node("linear", (before + 2, before), width, linear=Sum(weights=np.array([1.0, -1.0]), terms=2)))
        nodes.append(
            Node(
                "linear",
                (before + 3,),
                width,
                linear=Sum(weights=rng.normal(size=(1, width)).astype(np.float32).astype(float)),
            )
        )
    last = len(nodes) - 1
    nodes.append(Node("product", (last, last - 1), width))
    nodes.append(dense(last + 1, 3, width, rng))
    return nodes


def exact(nodes: list[Node], x: np.ndarray) -> list[list[arb]]:
    """All values, from 300 bits; each weight at a random place of its uncertainty."""
    flint.ctx.prec = 300
    values: list[list[arb]] = []
    pick = np.random.default_rng(0)
    for node in nodes:
        args = [values[j] for j in node.inputs]
        if node.kind == "input":
            values.append([arb(float(v)) for v in x[node.start : node.start + node.size]])
        elif node.linear is not None:
            matrices = [m[0] for m in node.linear.transpose(np.eye(node.size)[None])]
            bias = np.zeros(node.size) if node.linear.bias is None else node.linear.bias
            doubt = 0.0 if node.linear.doubt is None else float(node.linear.doubt.weights[0, 0])
            values.append([
                sum((arb(float(w)) * v + arb(doubt * float(pick.choice([-1, 1]))) * v * (doubt != 0) for m, a in zip(matrices, args, strict=True) for w, v in zip(m[e], a, strict=True)),
                    arb(float(bias[e])) + doubt * float(pick.choice([-1, 1])))
                for e in range(node.size)
            ])  # fmt: skip
        elif node.kind == "product":
            values.append([a * b for a, b in zip(*args, strict=True)])
        else:
            values.append([ball(node, v) for v in args[0]])
    return values


def ball(node: Node, x: arb) -> arb:
    low = node.parameters[0] if node.parameters else 0
    match node.kind:
        case "relu":
            return x.max(arb(0))
        case "leaky_relu":
            return x if x > 0 else arb(low) * x
        case "clip":
            return x.max(arb(low)).min(arb(node.parameters[1]))
        case "square":
            return x * x
        case "power":
            return x ** int(low)
        case "sigmoid":
            return 1 / (1 + (-x).exp())
        case "softplus":
            return (1 + x.exp()).log()
    return abs(x) if node.kind == "abs" else getattr(x, node.kind)()


def check(
    nodes: list[Node], box: tuple[np.ndarray, np.ndarray], evidence: bool, rng: np.random.Generator, forms: bool = False
) -> None:
    """Everything the graph says about boxes, at sampled places of each."""
    graph = graph_of(tuple(nodes), 3, False, lambda: None)
    ranges = forward(graph, box, {}, Forms() if forms else narrow)
    assert not ranges.empty.any()
    starts, batch = {}, len(box[0])
    for j in (len(nodes) - 1, len(nodes) - 4, 3):
        starts[j] = rng.normal(size=(batch, 1 if evidence else 4, nodes[j].size)) * (
            rng.uniform(size=(batch, 1, nodes[j].size)) < 0.7
        )
    choices = {
        i: rng.integers(0, 256, (batch, n.size)).astype(float)
        for i, n in enumerate(nodes)
        if n.kind not in ("input", "linear")
    }
    for i, values in choices.items():
        if nodes[i].kind not in ("relu", "leaky_relu", "abs", "product"):
            choices[i] = values / 128 - 1
    a, c = substitute(graph, ranges, starts, choices if evidence else None)
    bound = least(box, a, c)
    assert np.isfinite(a).all() and np.isfinite(c).all()
    for b in range(batch):
        corners = [np.where(rng.uniform(size=3) < 0.5, box[0][b], box[1][b]) for _ in range(4)]
        inside = [
            np.clip(box[0][b] + rng.uniform(size=3) * (box[1][b] - box[0][b]), box[0][b], box[1][b]) for _ in range(3)
        ]
        for x in (*corners, *inside):
            values = exact(nodes, x)
            for j in range(len(nodes)):
                for e in range(nodes[j].size):
                    assert not values[j][e] < arb(float(ranges.lower[j][b, e])), (j, e, nodes[j].kind)
                    assert not values[j][e] > arb(float(ranges.upper[j][b, e])), (j, e, nodes[j].kind)
            for r in range(a.shape[1]):
                true = sum(arb(float(starts[j][b, r, e])) * values[j][e] for j in starts for e in range(nodes[j].size))
                line = sum(arb(float(a[b, r, d])) * arb(float(x[d])) for d in range(3)) + arb(float(c[b, r]))
                assert not true < line
                assert not true < arb(float(bound[b, r]))


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("evidence", [False, True])
def test_bounds_hold(kind, evidence):
    rng = np.random.default_rng(5)
    nodes = network([kind, "relu"], rng)
    centre, width = rng.normal(size=(5, 3)), np.array([0.0, 1e-9, 0.05, 0.5, 1.0])[:, None]
    check(nodes, (centre - width, centre + width), evidence, rng)


@pytest.mark.parametrize("forms", [False, True])
def test_uncertain_weights(forms):
    rng = np.random.default_rng(6)
    nodes = network(["relu", "tanh"], rng, doubt=1e-3)
    centre, width = rng.normal(size=(3, 3)), np.array([0.0, 0.05, 0.5])[:, None]
    check(nodes, (centre - width, centre + width), False, rng, forms)


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("doubt", [0.0, 1e-3])
def test_affine_forms_hold(kind, doubt):
    """Of every value: F e + f, up to r, at the e of sampled places; one input does not vary, some boxes have no width."""
    rng = np.random.default_rng(12)
    nodes = network([kind, "relu"], rng, doubt=doubt)
    centre, width = rng.normal(size=(5, 3)), np.array([0.0, 1e-9, 0.05, 0.5, 1.0])[:, None] * np.array([1.0, 0.0, 3.0])
    box = centre - width, centre + width
    check(nodes, box, False, rng, forms=True)
    graph, forms = graph_of(tuple(nodes), 3, False, lambda: None), Forms()
    ranges = forward(graph, box, {}, forms)
    forms.reach(graph, ranges, len(nodes))
    assert forms.varying.tolist() == [0, 2]
    for b in range(5):
        for _ in range(4):
            x = np.clip(box[0][b] + rng.uniform(-0.2, 1.2, size=3) * 2 * width[b], box[0][b], box[1][b])
            for (form, spread), values in zip(forms.found, exact(nodes, x), strict=True):
                assert np.isfinite(form).all() and np.isfinite(spread).all()
                for e, value in enumerate(values):
                    off = value - arb(float(form[b, -1, e]))
                    for k, d in enumerate(forms.varying):
                        if form[b, k, e] != 0:
                            place = (arb(float(x[d])) - float(forms.middle[b, d])) / float(forms.radius[b, d])
                            off -= arb(float(form[b, k, e])) * place
                    assert not abs(off) > arb(float(spread[b, e]))


def test_affine_forms_know_what_cancels():
    """x - x is 0, and tanh of a small box is nearly a line: intervals do not see that, forms do."""
    rng = np.random.default_rng(13)
    nodes = network(["tanh", "tanh", "tanh"], rng)
    graph = graph_of(tuple(nodes), 3, False, lambda: None)
    centre = rng.normal(size=(2, 3))
    box = centre - 0.01, centre + 0.01
    wide, tight = forward(graph, box, {}), forward(graph, box, {}, Forms())
    assert all(np.all(a <= b) for a, b in zip(wide.lower, tight.lower, strict=True))
    assert np.sum(tight.upper[-2] - tight.lower[-2]) < 0.7 * np.sum(wide.upper[-2] - wide.lower[-2])


@pytest.mark.parametrize("kinds", [["exp", "exp", "exp"], ["power", "power", "exp"]])
def test_affine_forms_without_bounds_prove_nothing(kinds):
    rng = np.random.default_rng(14)
    nodes = network(kinds, rng)
    graph = graph_of(tuple(nodes), 3, False, lambda: None)
    box = np.full((1, 3), -1e200), np.full((1, 3), 1e200)
    ranges = forward(graph, box, {}, Forms())
    assert not any(np.isnan(v).any() for v in (*ranges.lower, *ranges.upper)) and not ranges.empty.any()
    bound = least(box, *substitute(graph, ranges, {len(nodes) - 1: np.eye(3)[None]}))
    assert not (bound > -1e300).any()


def test_a_box_without_width_has_values_known_to_rounding():
    rng = np.random.default_rng(7)
    nodes = network(["relu", "abs"], rng)
    x = rng.normal(size=(1, 3))
    ranges = forward(graph_of(tuple(nodes), 3, False, lambda: None), (x, x), {})
    assert all(np.all(high - low < 1e-12) for low, high in zip(ranges.lower, ranges.upper, strict=True))


def test_narrowing_is_worth_it_and_only_narrows():
    rng = np.random.default_rng(8)
    nodes = network(["relu", "relu", "relu"], rng)
    graph = graph_of(tuple(nodes), 3, False, lambda: None)
    box = -np.ones((2, 3)), np.ones((2, 3))
    wide, tight = forward(graph, box, {}), forward(graph, box, {}, narrow)
    assert all(np.all(a <= b) for a, b in zip(wide.lower, tight.lower, strict=True))
    assert np.sum(tight.upper[-2] - tight.lower[-2]) < np.sum(wide.upper[-2] - wide.lower[-2])
    known = {3: (wide.lower[3] + 0.5, wide.upper[3])}
    assert np.all(forward(graph, box, known).lower[3] == known[3][0])


def test_the_first_layer_is_not_narrowed():
    w = Dense(weights=np.ones((2, 3)), terms=3, back=2)
    nodes = (
        Node("input", (), 3), Node("linear", (0,), 3, linear=Sum(weights=np.full((1, 3), 2.0))), Node("linear", (1,), 2, linear=w), Node("relu", (2,), 2),
        Node("linear", (3,), 2, linear=Dense(weights=np.ones((2, 2)), terms=2, back=2)), Node("relu", (4,), 2), Node("relu", (5,), 2),
    )  # fmt: skip
    assert graph_of(nodes, 3, False, lambda: None).loose == {4, 5}


def test_infinite_ranges_prove_nothing():
    rng = np.random.default_rng(9)
    nodes = network(["exp", "exp", "exp"], rng)
    graph = graph_of(tuple(nodes), 3, False, lambda: None)
    box = np.full((1, 3), -1e3), np.full((1, 3), 1e3)
    ranges = forward(graph, box, {}, narrow)
    assert not any(np.isnan(v).any() for v in (*ranges.lower, *ranges.upper)) and not ranges.empty.any()
    bound = least(box, *substitute(graph, ranges, {len(nodes) - 1: np.eye(3)[None]}))
    assert not (bound > -1e300).any()


def test_empty_ranges_are_seen_box_by_box():
    rng = np.random.default_rng(10)
    nodes = network(["relu"], rng)
    graph = graph_of(tuple(nodes), 3, False, lambda: None)
    box = np.zeros((3, 3)), np.ones((3, 3))
    free = forward(graph, box, {})
    low, high = free.lower[3].copy(), free.upper[3].copy()
    low[1, 2] = high[1, 2] + 1
    assert forward(graph, box, {3: (low, high)}).empty.tolist() == [False, True, False]
    box[0][2, 1] = 2.0
    assert forward(graph, box, {}).empty.tolist() == [False, False, True]


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "abs", "tanh", "sigmoid", "exp"])
def test_float32_executions_stay_inside(kind):
    """Sums in several orders, the intermediate results rounded to float32; ranges and margins hold for all of them."""
    rng = np.random.default_rng(11)
    nodes = network([kind, kind], rng)
    graph = graph_of(tuple(nodes), 3, True, lambda: None)
    centre = rng.normal(size=(1, 3)).astype(np.float32).astype(float)
    box = centre - 2.0**-10, centre + 2.0**-10
    ranges = forward(graph, box, {}, narrow)
    start = {len(nodes) - 1: np.concatenate([np.eye(3), -np.eye(3)])[None]}
    a, c = substitute(graph, ranges, start)
    bound = least(box, a, c)
    real = least(
        box, *substitute(g := graph_of(tuple(nodes), 3, False, lambda: None), forward(g, box, {}, narrow), start)
    )
    assert np.all(bound < real) and np.all(real - bound < 1e-2)
    for _ in range(100):
        x = np.clip(
            (centre[0] + rng.uniform(-1, 1, 3) * 2.0**-10).astype(np.float32),
            *(end[0].astype(np.float32) for end in box),
        )
        values = execution(nodes, x, rng)
        for j in range(len(nodes)):
            assert np.all(values[j] >= ranges.lower[j][0]) and np.all(values[j] <= ranges.upper[j][0])
        rows = np.concatenate([values[-1], -values[-1]]).astype(float)
        assert np.all(rows >= bound[0]) and np.all(rows >= (a[0] @ x.astype(float) + c[0]) - 1e-14)


def execution(nodes: list[Node], x: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    values: list[np.ndarray] = []
    for node in nodes:
        args = [values[j] for j in node.inputs]
        if node.kind == "input":
            value = x[node.start : node.start + node.size]
        elif isinstance(node.linear, Dense):
            order, value = rng.permutation(len(args[0])), np.zeros(node.size, np.float32)
            for k in order:
                value = value + node.linear.weights[:, k].astype(np.float32) * args[0][k]
            value = value + node.linear.bias.astype(np.float32)
        elif node.linear is not None:
            value = node.linear.apply([a.astype(float)[None] for a in args])[0] + (
                0 if node.linear.bias is None else node.linear.bias
            )
        elif node.kind == "product":
            value = args[0] * args[1]
        else:
            # the parameter of leaky_relu is the float64 0.1; its float32 is within the 2 u
            value = {"relu": lambda z: np.maximum(z, 0), "leaky_relu": lambda z: np.where(z > 0, z, np.float32(0.1) * z), "abs": np.abs, "tanh": np.tanh,
                     "sigmoid": lambda z: 1 / (1 + np.exp(-z)), "exp": np.exp}[node.kind](args[0])  # fmt: skip
        values.append(np.asarray(value, np.float32))
    return values


def test_float32_overflow_says_nothing():
    w = Dense(weights=np.full((1, 1), 1e30), bias=np.zeros(1), terms=1, back=1)
    nodes = (Node("input", (), 1, rounds=False), Node("linear", (0,), 1, linear=w), Node("linear", (1,), 1, linear=w))
    ranges = forward(graph_of(nodes, 1, True, lambda: None), (np.ones((1, 1)), np.ones((1, 1))), {})
    assert np.isfinite(ranges.lower[1]).all() and ranges.lower[2].item() == -np.inf and ranges.upper[2].item() == np.inf
    ranges = forward(graph_of(nodes, 1, False, lambda: None), (np.ones((1, 1)), np.ones((1, 1))), {})
    assert np.isfinite(ranges.lower[2]).all()


def test_time_is_asked_for():
    def stop() -> None:
        raise Limit("now")

    nodes = (Node("input", (), 1, rounds=False),)
    graph = graph_of(nodes, 1, False, stop)
    with pytest.raises(Limit):
        substitute(graph, forward(graph, (np.zeros((1, 1)), np.ones((1, 1))), {}), {0: np.ones((1, 1, 1))})


def test_sums_are_rounded_down():
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=(2, 1000)) * 10.0 ** rng.integers(-300, 300, (2, 1000))
    found = plus(a, b)
    for x, y, z in zip(a.tolist(), b.tolist(), found.tolist(), strict=True):
        flint.ctx.prec = 3000
        assert arb(z) <= arb(x) + arb(y)
    rows, one, many = rng.normal(size=(4, 3, 5)), rng.normal(size=(1, 5)), rng.normal(size=(4, 5))
    assert np.allclose(dot(rows, one), rows @ one[0])
    assert np.allclose(dot(rows, many), np.einsum("brm,bm->br", rows, many)) and np.allclose(
        dot(rows[:, :1], many), np.einsum("brm,bm->br", rows[:, :1], many)
    )


def aligned(
    nodes: list[Node],
    start: dict[int, np.ndarray],
    rng: np.random.Generator,
    evidence: dict[int, np.ndarray] | None = None,
) -> None:
    """At the corner of the box where all rounding errors of the coefficients add up, the linear bound still holds exactly."""
    size = nodes[0].size
    graph = graph_of(tuple(nodes), size, False, lambda: None)
    box = -np.ones((1, size)), np.ones((1, size))
    ranges = forward(graph, box, {})
    a, c = substitute(graph, ranges, start, evidence)
    coefficients = [Fraction(0)] * size
    rows = {j: [Fraction(v) for v in r[0, 0].tolist()] for j, r in start.items()}
    for i in range(len(nodes) - 1, -1, -1):  # the same in rationals; functions have one line only
        row = rows.pop(i, None)
        if row is None:
            continue
        node = nodes[i]
        if node.kind == "input":
            coefficients = [p + q for p, q in zip(coefficients, row, strict=True)]
        elif node.linear is None:
            slope = graph_slope(graph, ranges, i, evidence)
            rows[node.inputs[0]] = [p * Fraction(s) for p, s in zip(row, slope, strict=True)]
        else:
            for j, matrix in zip(node.inputs, node.linear.transpose(np.eye(node.size)[None]), strict=True):
                part = [
                    sum((p * Fraction(float(w)) for p, w in zip(row, column, strict=True)), Fraction(0))
                    for column in matrix[0].T
                ]
                rows[j] = [p + q for p, q in zip(rows.get(j, [Fraction(0)] * len(part)), part, strict=True)]
    gap = sum(abs(Fraction(float(v)) - exact) for v, exact in zip(a[0, 0], coefficients, strict=True))
    assert gap > 0 and Fraction(float(c[0, 0])) + gap <= 0


def graph_slope(graph, ranges, i, evidence):
    node, known = graph.nodes[i], (ranges.lower[i], ranges.upper[i])
    below = line(node, np.ones((1, node.size)), *ranges.of(node), known, 0.0, evidence[i])
    return below[0][0][0].tolist()


@pytest.mark.parametrize("case", ["matrix", "slopes", "sum"])
def test_rounding_of_coefficients_is_paid_for(case):
    """Constants are zero here, so that c holds nothing but what rounding may cost."""
    rng = np.random.default_rng(13)
    for _ in range(20):
        inputs = Node("input", (), 8, rounds=False)
        row = np.abs(rng.normal(size=(1, 1, 8)))
        if case == "matrix":
            w = rng.normal(size=(8, 8))
            w[-1] = -(row[0, 0, :-1] @ w[:-1]) / row[0, 0, -1]  # the sums cancel
            aligned([inputs, Node("linear", (0,), 8, linear=Dense(weights=w, terms=8, back=8))], {1: row}, rng)
        elif case == "slopes":
            aligned([inputs, Node("relu", (0,), 8)], {1: row}, rng, {1: rng.integers(1, 255, (1, 8)).astype(float)})
        else:
            exact_copy = Node("linear", (0,), 8, linear=Gather(sizes=(8,), index=np.arange(8), exact=True))
            aligned([inputs, exact_copy], {1: row, 0: rng.normal(size=(1, 1, 8))}, rng)


def test_least_is_rounded_down():
    rng = np.random.default_rng(14)
    for _ in range(200):
        a, low = rng.normal(size=(1, 1, 30)), rng.normal(size=(1, 30))
        low[0, -1] -= (a[0, 0] @ low[0]) / a[0, 0, -1]  # the sum cancels
        found = least((low, low), a, np.zeros((1, 1)))[0, 0]
        assert Fraction(float(found)) <= sum(
            Fraction(float(p)) * Fraction(float(q)) for p, q in zip(a[0, 0], low[0], strict=True)
        )


def test_noise_of_float32_is_charged_in_full():
    """sum |w||x| = 6 and 4 terms: k = 6; the second node is a library function."""
    u, k = 2.0**-24, 6
    w = Dense(weights=np.array([[1.0, 2.0, -2.0, 1.0]]), bias=np.zeros(1), terms=4, back=1)
    nodes = (Node("input", (), 4, rounds=False), Node("linear", (0,), 1, linear=w), Node("tanh", (1,), 1))
    box, lows = (np.ones((1, 4)), np.ones((1, 4))), []
    for float32 in (True, False):
        graph = graph_of(nodes, 4, float32, lambda: None)
        ranges = forward(graph, box, {})
        both = [least(box, *substitute(graph, ranges, {j: np.ones((1, 1, 1))})).item() for j in (1, 2)]
        lows.append((ranges.lower[1].item(), ranges.lower[2].item(), *both))
    linear, tanh = k * u / (1 - k * u) * 6 + 2 * k * 2.0**-126, 64 * u * np.tanh(2) + 2.0**-20
    noisy, real = np.array(lows)
    assert np.all(real - noisy >= [linear - 1e-14, tanh, linear - 1e-14, tanh]) and np.all(
        real - noisy <= [1.01 * linear, 1.1 * tanh, 1.01 * linear, 1.1 * tanh]
    )


def test_networks_that_share_inputs():
    nodes = (Node("input", (), 2, rounds=False), Node("input", (), 2, rounds=False))
    box = np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]])
    graph = graph_of(nodes, 2, False, lambda: None)
    a, c = substitute(graph, forward(graph, box, {}), {0: np.array([[[1.0, 2.0]]]), 1: np.array([[[0.1, -5.0]]])})
    assert a.tolist() == [[[1.1, -3.0]]] and -1e-14 < c.item() < -1e-16


def test_values_that_nothing_needs_are_passed_over():
    copy = Gather(sizes=(2,), index=np.arange(2), exact=True)
    nodes = (Node("input", (), 2, rounds=False), Node("exp", (0,), 2), Node("linear", (0,), 2, linear=copy))
    graph, box = graph_of(nodes, 2, False, lambda: None), (np.zeros((1, 2)), np.ones((1, 2)))
    a, c = substitute(graph, forward(graph, box, {}), {2: np.array([[[1.0, -2.0]]])})
    assert a.tolist() == [[[1.0, -2.0]]] and -1e-14 < c.item() <= 0
