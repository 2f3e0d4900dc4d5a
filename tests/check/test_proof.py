"""Replay of proof trees: what is proved is accepted, and nothing else, whatever the records say."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from holdfast_check import proof
from holdfast_check.arithmetic import Invalid, Limit
from holdfast_check.container import RECORD, Block
from holdfast_check.linear import Dense, Gather
from holdfast_check.network import Node
from holdfast_check.property import Region

ROOT, LEAF, INPUT, NEURON, AGAIN = range(5)
NOTHING = 2**32 - 1


@pytest.fixture(scope="module", autouse=True)
def whole_leaves():
    """The checker cuts no leaf by itself; tests/check/test_refinement.py is about that."""
    deepest, proof.DEEPEST = proof.DEEPEST, 0
    yield
    proof.DEEPEST = deepest


def dense(j, weights, bias, rounds=True):
    w = np.array(weights, float)
    return Node(
        "linear",
        (j,),
        len(w),
        linear=Dense(weights=w, bias=np.array(bias, float), terms=w.shape[1], back=len(w)),
        rounds=rounds,
    )


def region(lower, upper, *cases):
    ends = np.array(lower, float), np.array(upper, float)
    return Region(*ends, *(tuple(Fraction(v) for v in end.tolist()) for end in ends), cases)


def query(nodes, *regions, strict=None, inputs=2):
    strict = np.zeros(nodes[-1].size, bool) if strict is None else np.array(strict)
    return SimpleNamespace(nodes=tuple(nodes), output=len(nodes) - 1, inputs=inputs, strict=strict, regions=regions)


def certificate(records, mode="boxes", table=(), leaves=(), ranges=(), semantics="real"):
    header = {
        "mode": mode,
        "semantics": semantics,
        "nonlinear": [dict(zip(("network", "node", "part", "size", "evidence"), t, strict=True)) for t in table],
    }
    return SimpleNamespace(header=header, records=np.array(records, RECORD), leaves=list(leaves), ranges=list(ranges))


def prove(q, c, deadline=None):
    return proof.prove(q, c, deadline=deadline, report=lambda text: None)


def random_network(rng, sizes=(2, 8, 8, 1), kind="relu"):
    nodes = [Node("input", (), sizes[0], rounds=False)]
    for k in range(1, len(sizes)):
        nodes.append(dense(len(nodes) - 1, rng.normal(size=(sizes[k], sizes[k - 1])), rng.normal(size=sizes[k])))
        if k < len(sizes) - 1:
            nodes.append(Node(kind, (len(nodes) - 1,), sizes[k], label=("N", f"f{k}", 0), rounds=False))
    return nodes


def shifted(nodes, shift):
    return [*nodes, dense(len(nodes) - 1, [[1.0]], [shift], False)]


def values(nodes, x):
    found = []
    for node in nodes:
        args = [found[j] for j in node.inputs]
        found.append(
            x
            if node.kind == "input"
            else node.linear.apply(args) + node.linear.bias
            if node.linear
            else np.maximum(args[0], 0)
        )
    return found[-1]


def bisected(nodes, box, records, looks=(0,), depth=0):
    """Appends the tree of a search: a leaf where the whole check of that box alone succeeds, else a cut in the middle."""
    number = sum({ROOT: 1, INPUT: 2, AGAIN: 1}.get(r[1], 0) for r in records) if records else 0
    if not records:
        records.append((0, ROOT, 0, 0, 0.0))
    queue = [(0, *box, 0)]
    number = 1
    while queue:
        own, lower, upper, depth = queue.pop(0)
        look = looks[own % len(looks)]
        try:
            prove(query(nodes, region(lower, upper, (0,))), certificate([(0, ROOT, 0, 0, 0), (0, LEAF, 0, look, 0)]))
            records.append((own, LEAF, 0, look, 0.0))
        except Invalid:
            if depth > 14:
                raise
            axis = int(np.argmax(np.subtract(upper, lower)))
            if own % 7 == 3 and records[-1][1] != AGAIN:
                records.append((own, AGAIN, 0, 0, 0.0))
                queue.append((number, lower, upper, depth + 1))
                number += 1
                continue
            middle = 0.5 * (lower[axis] + upper[axis])
            records.append((own, INPUT, axis, look, middle))
            for side in (0, 1):
                ends = [list(lower), list(upper)]
                ends[1 - side][axis] = middle
                queue.append((number + side, *ends, depth + 1))
            number += 2
    return records


@pytest.fixture(scope="module")
def searched():
    """A network, a margin that is positive but not by much, and the tree that proves it."""
    rng = np.random.default_rng(3)
    nodes = random_network(rng)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 301)] * 2), axis=-1).reshape(-1, 2)
    least = float(values(nodes, grid).min())
    box = [-1.0, -1.0], [1.0, 1.0]
    nodes = shifted(nodes, 0.2 - least)
    return nodes, box, bisected(nodes, box, [], (0, 0, 1)), least


def test_a_search_is_accepted(searched):
    nodes, box, records, _ = searched
    assert (
        len(records) > 15
        and {r[1] for r in records} == {ROOT, LEAF, INPUT, AGAIN}
        and {r[3] for r in records} == {0, 1}
    )
    figures = prove(query(nodes, region(*box, (0,))), certificate(records))
    assert figures.leaves == sum(r[1] == LEAF for r in records) and figures.records == len(records)


def test_what_is_false_is_never_accepted(searched):
    nodes, box, records, least = searched
    false = shifted(nodes[:-1], -least - 1e-3)
    rng = np.random.default_rng(4)
    q = query(false, region(*box, (0,)))
    for _ in range(300):
        table = np.array(records, RECORD)
        for _ in range(rng.integers(0, 4)):
            k, name = rng.integers(len(table)), rng.choice(["node", "kind", "place", "element", "at"])
            table[name][k] = (
                rng.choice(table[name])
                if rng.uniform() < 0.7
                else rng.choice([0, 1, 2, 255, np.nan if name == "at" else 3])
            )
        if rng.uniform() < 0.2:
            table = table[rng.permutation(len(table))]
        if rng.uniform() < 0.2:
            table = table[: rng.integers(len(table))]
        with pytest.raises(Invalid):
            prove(q, certificate(table))


def test_one_record_less_is_incomplete(searched):
    nodes, box, records, _ = searched
    q = query(nodes, region(*box, (0,)))
    leaf = max(k for k, r in enumerate(records) if r[1] == LEAF)
    with pytest.raises(Invalid, match="no root under which every obligation has a record"):
        prove(q, certificate(records[:leaf] + records[leaf + 1 :]))
    assert prove(q, certificate([(0, ROOT, 0, 0, 0), *[(n + 1, *rest) for n, *rest in records]]))  # begun once more


MARGIN = [
    Node("input", (), 2, rounds=False),
    dense(0, [[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]], [0.5, 0.0, -1e-300], False),
]


@pytest.mark.parametrize(
    ("records", "what"),
    [
        ([], "no root"),
        ([(0, LEAF, 0, 0, 0)], "has not been made"),
        ([(1, ROOT, 0, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 1, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 1, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 1)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, NEURON, 0, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, 5, 0, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, 255, 0, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, LEAF, 0, 2, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, LEAF, 1, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, LEAF, 0, 0, np.inf)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, INPUT, 2, 0, 0)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, INPUT, 0, 0, np.nan)], "not one of its mode"),
        ([(0, ROOT, 0, 0, 0), (0, LEAF, 0, 0, 0), (0, LEAF, 0, 0, 0)], "two records"),
        (
            [(0, ROOT, 0, 0, 0), (0, INPUT, 0, 0, 0), (1, LEAF, 0, 0, 0), (1, LEAF, 0, 0, 0), (2, LEAF, 0, 0, 0)],
            "two records",
        ),
        ([(0, ROOT, 0, 0, 0), (1, LEAF, 0, 0, 0), (0, INPUT, 0, 0, 0)], "has not been made"),
        ([(0, ROOT, 0, 0, 0), (0, INPUT, 0, 0, 0), (1, LEAF, 0, 0, 0)], "no root"),
        (
            [(0, ROOT, 0, 0, 0), (0, LEAF, 0, 0, 0)],
            "region 0, obligation 0: case 0 is not refuted, no row is known",
        ),
        (
            [
                (0, ROOT, 0, 0, 0),
                (0, INPUT, 1, 0, 0),
                (1, INPUT, 0, 0, 0),
                (2, LEAF, 0, 0, 0),
                (3, LEAF, 0, 0, 0),
                (4, LEAF, 0, 0, 0),
            ],
            "obligation 2: case 0",
        ),
    ],
)
def test_records_that_are_refused(records, what):
    with pytest.raises(Invalid, match=what):
        prove(query(MARGIN, region([-1, -1], [1, 1], (0,))), certificate(records))


LEAF_ONLY = [(0, ROOT, 0, 0, 0), (0, LEAF, 0, 0, 0)]


def test_rows_cases_and_strictness():
    """x + y + 0.5, x - y, and a constant below zero."""
    low, high = [0.0, 0.0], [1.0, 0.0]
    assert prove(query(MARGIN, region(low, high, (0,))), certificate(LEAF_ONLY))
    assert prove(query(MARGIN, region(low, high, (1, 0), (0, 2))), certificate(LEAF_ONLY))
    for cases, strict in (([(0,), (1,)], None), ([(2,)], None), ([(1, 2)], None), ([(0,), ()], None)):
        with pytest.raises((Invalid, ValueError)):
            prove(query(MARGIN, region(low, high, *cases), strict=strict), certificate(LEAF_ONLY))
    both = [(0, ROOT, 0, 0, 0), (0, LEAF, 0, 0, 0), (1, ROOT, 1, 0, 0), (1, LEAF, 0, 0, 0)]
    assert prove(query(MARGIN, region(low, high, (0,)), region(high, high, (1,))), certificate(both))
    with pytest.raises(Invalid, match="region 1: there is no root"):
        prove(query(MARGIN, region(low, high, (0,)), region(high, high, (1,))), certificate(LEAF_ONLY))
    with pytest.raises(Invalid, match="region 1"):
        prove(query(MARGIN, region(low, high, (0,)), region([0, 1], [0, 1], (1,))), certificate(both))
    assert prove(query(MARGIN), certificate([])).records == 0  # no region is left: nothing is claimed


def test_the_box_is_contracted():
    """x + y + 0.5 <= 0 and x - y <= 0 leave x <= -0.25: cut by cut the other rows become positive."""
    nodes = [
        Node("input", (), 2, rounds=False),
        dense(0, [[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]], [0.5, 0.0, -0.3], False),
    ]
    q = query(nodes, region([-1, -1], [1, 1], (0, 1, 2)))
    with pytest.raises(Invalid):
        prove(q, certificate(LEAF_ONLY))
    found = {}
    for count in range(1, 8):
        records = [(0, ROOT, 0, 0, 0), *[(k, AGAIN, 0, 0, 0) for k in range(count)], (count, LEAF, 0, 0, 0)]
        try:
            found[count] = prove(q, certificate(records))
        except Invalid:
            continue
    assert not found  # x = -0.3, y = -0.25 is a counterexample
    nodes[1] = dense(0, [[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]], [0.5, 0.0, 0.3], False)
    assert prove(
        query(nodes, region([-1, -1], [1, 1], (0, 1, 2), (2, 1, 0))),
        certificate([(0, ROOT, 0, 0, 0), (0, AGAIN, 0, 0, 0), (1, LEAF, 0, 0, 0)]),
    )


def test_contraction_keeps_every_counterexample():
    rng = np.random.default_rng(9)
    for _ in range(200):
        box = np.sort(rng.normal(size=(2, 5, 3)), axis=0)
        a, c = rng.normal(size=(5, 2, 3)) * (rng.uniform(size=(5, 2, 3)) < 0.8), rng.normal(size=(5, 2))
        with np.errstate(all="ignore"):
            hull, still = proof.contract((box[0], box[1]), a, c, {0: [0, 1], 1: [1]}, np.ones((5, 2), bool))
        x = box[0] + rng.uniform(size=(400, 5, 3)) * (box[1] - box[0])
        margins = np.einsum("brn,kbn->kbr", a, x) + c
        for case, rows in ((0, [0, 1]), (1, [1])):
            held = np.all(margins[:, :, rows] <= -1e-12, axis=2)
            assert not np.any(held & ~still[:, case])
            assert np.all((x >= hull[0]) & (x <= hull[1]) | ~held[:, :, None])


def test_cuts_outside_of_the_box_still_cover_it():
    nodes = [Node("input", (), 2, rounds=False), dense(0, [[1.0, 0.0]], [0.0], False)]
    leaves = [(1, LEAF, 0, 1, 0), (2, LEAF, 0, 0, 0)]
    for at in (-5.0, 5.0, 1e300):
        records = [(0, ROOT, 0, 0, 0), (0, INPUT, 0, 1, at), *leaves]
        assert prove(query(nodes, region([0.5, 0], [1, 0], (0,))), certificate(records))
        with pytest.raises(Invalid):
            prove(query(nodes, region([-1, 0], [1, 0], (0,))), certificate(records))


def test_limits(searched):
    nodes, box, records, _ = searched
    with pytest.raises(Limit, match="time"):
        prove(query(nodes, region(*box, (0,))), certificate(records), deadline=0.0)


# ---- mode neurons: |w| + 0.1 as w's own sum: margin = -x - y + 2 relu(w) + 0.1, w = x + y

W = [
    Node("input", (), 2, rounds=False), dense(0, [[1.0, 1.0]], [0.0]), Node("relu", (1,), 1, label=("N", "r", 0), rounds=False),
    Node("linear", (0, 2), 3, linear=Gather(sizes=(2, 1), index=np.array([0, 1, 2]), exact=True), rounds=False),
    dense(3, [[-1.0, -1.0, 2.0]], [0.1], False),
]  # fmt: skip
TABLE = [("N", "r", 0, 1, "unit")]
SPLIT = [(0, ROOT, 0, 1, 0), (0, NEURON, 0, 0, 0), (1, LEAF, 0, 0, 0), (2, LEAF, 0, 0, 0)]


def chunk(multipliers, unit=(), line=()):
    return np.array(multipliers, "<f4"), np.array(unit, "u1"), np.array(line, "<f4")


def w_query(shift=0.1, box=([-1, -1], [1, 1])):
    return query([*W[:-1], dense(3, [[-1.0, -1.0, 2.0]], [shift], False)], region(*box, (0,)))


def test_splits_of_neurons_need_their_multipliers():
    assert prove(w_query(), certificate(SPLIT, "neurons", TABLE, [chunk([-1, 1], [0, 0])])).leaves == 2
    assert prove(w_query(), certificate(SPLIT, "neurons", TABLE, [chunk([-1], [0]), chunk([1], [0])]))  # two chunks
    for multipliers in ([0, 1], [-1, 0], [-0.5, 1]):
        with pytest.raises(Invalid, match=r"obligation [12]: case 0 is not refuted, row 0 is only known"):
            prove(w_query(), certificate(SPLIT, "neurons", TABLE, [chunk(multipliers, [0, 0])]))
    for multipliers in ([1, 1], [-1, -1], [np.nan, 1], [-1, np.inf]):
        with pytest.raises(Invalid, match="wrong sign"):
            prove(w_query(), certificate(SPLIT, "neurons", TABLE, [chunk(multipliers, [0, 0])]))
    for evidence in ([], [chunk([-1, 1])], [chunk([-1], [0, 0])], [chunk([-1, 1], [0])]):
        with pytest.raises((Invalid, ValueError, IndexError)):  # all of them are `invalid` to the command
            prove(w_query(), certificate(SPLIT, "neurons", TABLE, evidence))
    with pytest.raises(Invalid):
        prove(w_query(-1e-9), certificate(SPLIT, "neurons", TABLE, [chunk([-1, 1], [0, 0])]))
    again = [(0, ROOT, 0, 1, 0), (1, ROOT, 0, 1, 0), *[(n + 1, *rest) for n, *rest in SPLIT[1:]]]
    assert prove(w_query(), certificate(again, "neurons", TABLE, [chunk([-1, 1], [0, 0])]))


def test_where_a_neuron_is_split_enters_the_bound():
    """Left of z = t the margin is only known to be at least 0.1 - t with the multiplier -1, right of it t + 0.1 with 1."""
    for at, good in ((0.05, True), (-0.05, True), (0.2, False), (-0.2, False)):
        records = [SPLIT[0], (0, NEURON, 0, 0, at), *SPLIT[2:]]
        c = certificate(records, "neurons", TABLE, [chunk([-1, 1], [0, 255])])
        if good:
            assert prove(w_query(), c)
        else:
            with pytest.raises(Invalid, match=r"at least -0\.1"):
                prove(w_query(), c)


def test_a_row_that_does_not_exist():
    with pytest.raises((Invalid, IndexError)):
        prove(w_query(), certificate([*SPLIT[:3], (2, LEAF, 0, 1, 0)], "neurons", TABLE, [chunk([-1, 1], [0, 0])]))


def test_ends_that_leave_nothing():
    records = [(0, ROOT, 0, 1, 0), (0, NEURON, 0, 0, 5.0), (1, LEAF, 0, 0, 0), (2, LEAF, 0, NOTHING, 0)]
    box = [0.2, 0.2], [1, 1]
    assert prove(w_query(box=box), certificate(records, "neurons", TABLE, [chunk([0], [0])]))
    records[1] = (0, NEURON, 0, 0, 1.0)
    with pytest.raises(Invalid, match="something may be left"):
        prove(w_query(box=box), certificate(records, "neurons", TABLE, [chunk([0], [0])]))


@pytest.mark.parametrize(
    ("records", "what"),
    [
        ([(0, ROOT, 0, 0, 0), *SPLIT[1:]], "not one of its mode"),
        ([(0, ROOT, 0, 2, 0), *SPLIT[1:]], "not one of its mode"),
        ([(0, ROOT, 7, 1, 0), *SPLIT[1:]], "not one of its mode"),
        ([(0, ROOT, 0, 1, 0.5), *SPLIT[1:]], "not one of its mode"),
        ([(0, ROOT, 0, 1, -1), *SPLIT[1:]], "not one of its mode"),
        ([SPLIT[0], (0, INPUT, 0, 0, 0), *SPLIT[2:]], "not one of its mode"),
        ([SPLIT[0], (0, NEURON, 1, 0, 0), *SPLIT[2:]], "not one of its mode"),
        ([SPLIT[0], (0, NEURON, 0, 1, 0), *SPLIT[2:]], "not one of its mode"),
        (SPLIT[:3], "case 0: there is no root"),
    ],
)
def test_records_of_mode_neurons_that_are_refused(records, what):
    with pytest.raises(Invalid, match=what):
        prove(w_query(), certificate(records, "neurons", TABLE, [chunk([-1, 1], [0, 0])]))


@pytest.mark.parametrize(
    "table",
    [
        [("M", "r", 0, 1, "unit")], [("N", "s", 0, 1, "unit")], [("N", "r", 1, 1, "unit")], [("N", "r", 0, 2, "unit")], [("N", "r", 0, 1, "line")],

    ],
)  # fmt: skip
def test_tables_that_are_refused(table):
    with pytest.raises(Invalid, match="of nonlinear"):
        prove(w_query(), certificate(SPLIT, "neurons", table, [chunk([-1, 1], [0, 0, 0, 0])]))


def test_two_functions_of_one_name_cannot_be_spoken_of():
    nodes = [
        *W[:3],
        replace(W[2], inputs=(1,)),
        Node("linear", (0, 3), 3, linear=W[3].linear),
        dense(4, [[-1.0, -1.0, 2.0]], [0.1]),
    ]
    with pytest.raises(Invalid, match="is not one function"):
        prove(
            query(nodes, region([-1, -1], [1, 1], (0,))), certificate(SPLIT, "neurons", TABLE, [chunk([-1, 1], [0, 0])])
        )


def neurons_case(kind="relu", seed=3, sizes=(2, 6, 6, 1)):
    """A network, the gap between its least value and what the ranges of the region alone prove, and its table."""
    nodes = random_network(np.random.default_rng(seed), sizes, kind)
    if kind != "relu":
        nodes = [replace(n, rounds=True) if n.kind == kind else n for n in nodes]
    table = [("N", f"f{k}", 0, sizes[k], "unit" if kind == "relu" else "line") for k in (1, 2)]
    return nodes, table


def bound_of(nodes, table, ranges=(), passes=0, evidence=None, box=([-1, -1], [1, 1])):
    """The least shift of the margin that one leaf proves, by bisection."""
    width = sum(t[3] for t in table)
    evidence = evidence or chunk(
        [], np.full(width, 128) if table[0][4] == "unit" else [], [] if table[0][4] == "unit" else np.full(width, 0.3)
    )
    good, bad = 100.0, -100.0
    for _ in range(25):
        middle = 0.5 * (good + bad)
        c = certificate([(0, ROOT, 0, 1, passes), (0, LEAF, 0, 0, 0)], "neurons", table, [evidence], ranges)
        try:
            prove(query(shifted(nodes, middle), region(*box, (0,))), c)
            good = middle
        except Invalid:
            bad = middle
    return good


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_passes_narrow_and_never_too_much(kind):
    nodes, table = neurons_case(kind)
    rng = np.random.default_rng(5)
    size = table[0][3]
    unit, line = (size, 0) if kind == "relu" else (0, size)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2), axis=-1).reshape(-1, 2)
    found = grid
    for node in nodes[1:]:
        found = (
            node.linear.apply([found]) + node.linear.bias
            if node.linear
            else np.maximum(found, 0)
            if kind == "relu"
            else np.tanh(found)
        )
    least = -float(found.min())  # the shift that makes the margin touch zero
    plain, found = bound_of(nodes, table), []
    assert plain >= least
    for _ in range(3):
        elements = rng.integers(0, size, 50).astype("<u4")
        block = Block(
            0,
            1,
            1,
            elements,
            255 * rng.integers(0, 2, (100, unit)).astype("u1"),
            rng.uniform(0, 0.5, (100, line)).astype("<f4"),
        )
        other = replace(block, number_of_pass=2, unit=rng.integers(0, 256, (100, unit)).astype("u1"))
        own = bound_of(nodes, table, [block, other, replace(block, region=9)], 2)
        assert least <= own
        assert bound_of(nodes, table, [block, other], 0) == pytest.approx(plain, abs=1e-4)
        found.append(own)
    assert (
        min(found) < plain - 1e-3 if kind == "tanh" else all(abs(own - plain) > 1e-3 for own in found)
    )  # one slope for all is no best one
    with pytest.raises(Invalid, match="an element does not exist"):
        wrong = [replace(block, elements=np.full(50, size, "<u4"))]
        prove(
            query(shifted(nodes, 100.0), region([-1, -1], [1, 1], (0,))),
            certificate(
                [(0, ROOT, 0, 1, 1), (0, LEAF, 0, 0, 0)],
                "neurons",
                table,
                [chunk([], np.zeros(2 * unit), np.zeros(2 * line))],
                wrong,
            ),
        )


def test_evidence_chooses_slopes():
    nodes, table = neurons_case()
    rng = np.random.default_rng(6)
    bounds = [bound_of(nodes, table, evidence=chunk([], rng.integers(0, 256, 12))) for _ in range(20)]
    assert len(set(np.round(bounds, 6))) > 5


def test_false_claims_of_mode_neurons_are_never_accepted():
    rng = np.random.default_rng(7)
    nodes, table = neurons_case()
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * 2), axis=-1).reshape(-1, 2)
    false = shifted(nodes, -float(values(nodes, grid).min()) - 1e-3)
    for _ in range(60):
        records, number, queue, depths = [(0, ROOT, 0, 1, 1)], 1, [(0, 0)], []
        signs: list[list[int]] = [[]]
        while queue:
            own, depth = queue.pop(0)
            if depth < 4 and rng.uniform() < 0.8:
                records.append((own, NEURON, rng.integers(2), rng.integers(6), rng.normal() * 0.3))
                queue += [(number, depth + 1), (number + 1, depth + 1)]
                signs += [[*signs[own], -1], [*signs[own], 1]]
                number += 2
            else:
                records.append((own, LEAF, 0, 0 if rng.uniform() < 0.9 else NOTHING, 0))
                depths += signs[own] if records[-1][3] == 0 else []
        leaves = sum(r[1] == LEAF and r[3] == 0 for r in records)
        evidence = chunk(np.abs(rng.normal(size=len(depths))) * depths, rng.integers(0, 256, 12 * leaves))
        block = Block(
            0, 1, 1, np.arange(6, dtype="<u4"), rng.integers(0, 256, (12, 6)).astype("u1"), np.zeros((12, 0), "<f4")
        )
        with pytest.raises(Invalid, match="is not refuted"):
            prove(
                query(false, region([-1, -1], [1, 1], (0,))),
                certificate(records, "neurons", table, [evidence], [block]),
            )


def test_products_are_split_at_either_factor():
    """x y + 0.1 on [-1, 1]^2 where both factors are cut at zero, with the evidence of a corner: x y >= 0 on two of four parts."""
    nodes = [
        Node("input", (), 2, rounds=False), dense(0, [[1.0, 0.0]], [0.0]), dense(0, [[0.0, 1.0]], [0.0]), Node("product", (1, 2), 1, label=("N", "p", 0)),
        dense(3, [[1.0]], [1.1], False),
    ]  # fmt: skip
    table, whole = [("N", "p", 0, 1, "unit")], [chunk([0] * 8, [255, 0, 0, 0])]
    records = [
        (0, ROOT, 0, 1, 0),
        (0, NEURON, 0, 0, 0),
        (1, NEURON, 0, 1, 0),
        (2, NEURON, 0, 1, 0),
        *[(k, LEAF, 0, 0, 0) for k in (3, 4, 5, 6)],
    ]
    assert prove(query(nodes, region([-1, -1], [1, 1], (0,))), certificate(records, "neurons", table, whole))
    nodes[-1] = dense(3, [[1.0]], [0.99], False)
    with pytest.raises(Invalid, match="obligation 4: case 0"):
        prove(query(nodes, region([-1, -1], [1, 1], (0,))), certificate(records, "neurons", table, whole))
    with pytest.raises(Invalid, match="not one of its mode"):
        records[1] = (0, NEURON, 0, 2, 0)
        prove(query(nodes, region([-1, -1], [1, 1], (0,))), certificate(records, "neurons", table, whole))
