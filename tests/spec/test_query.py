"""Binding: rows against direct exact evaluation, several networks and inputs, mismatches."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from holdfast.errors import MismatchError
from holdfast.graph import Model, Tensor
from holdfast.load.vnnlib import parse_property
from holdfast.operators import GraphBuilder
from holdfast.spec import Query, Role, bind
from holdfast.transforms.evaluate import evaluate

SIZES = ((1, 4), (2, 3))


def network(
    seed: int = 0, shapes: tuple = ((1, 4),), outputs: int = 3, names: str = "x", dtype: str = "float32"
) -> Model:
    """relu(W x + b), twice; several inputs are flattened and joined."""
    rng, builder = np.random.default_rng(seed), GraphBuilder()
    positions = [builder.input(shape, f"{names}{i}") for i, shape in enumerate(shapes)]
    flat = [builder.add("reshape", (p,), shape=(1, int(np.prod(s)))) for p, s in zip(positions, shapes, strict=True)]
    value = flat[0] if len(flat) == 1 else builder.add("concat", flat, axis=1)
    width = builder.shape(value)[1]
    for n in (5, outputs):
        weight = rng.integers(-8, 9, (width, n)) / 4
        value = builder.add("relu", (builder.add("dense", (value,), (weight, rng.integers(-4, 5, n) / 2)),))
        width = n
    graph, parameters = builder.build([value])
    tensors = tuple(Tensor(f"{names}{i}", s, dtype) for i, s in enumerate(shapes))
    return Model(graph, parameters, tensors, (Tensor("y", (1, outputs), dtype),), "net", radii=builder.radii)


def property_1(inputs: int, outputs: int, *assertions: str) -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)] + [
        f"(declare-const Y_{i} Real)" for i in range(outputs)
    ]
    lines += [f"(assert (>= X_{i} -2.0))\n(assert (<= X_{i} {i}.7))" for i in range(inputs)]
    return "\n".join([*lines, *(f"(assert {a})" for a in assertions)])


def outputs_of(query: Query, x: np.ndarray) -> np.ndarray:
    feeds, results = query.feeds(x), {}
    for name, model in query.models.items():
        arrays = [feeds[name][t.name].astype(np.float64) for t in model.inputs]
        values = evaluate(model.graph, model.parameters, arrays)
        results[name] = {t.name: values[p] for t, p in zip(model.outputs, model.graph.outputs, strict=True)}
    return query.join_outputs(results)


def rows_of(query: Query, x: np.ndarray) -> np.ndarray:
    return evaluate(query.graph, query.parameters, [x])[query.graph.outputs[0]]


def check_rows(query: Query, seed: int = 1, points: int = 20) -> None:
    """Rows equal the exact left sides up to rounding, and cases mean what the property means."""
    rng, prop = np.random.default_rng(seed), query.property
    lower = np.min([r.box.lower for r in query.regions], axis=0)
    upper = np.max([r.box.upper for r in query.regions], axis=0)
    assert [query.graph[p].shape for p in query.graph.inputs] == [(prop.input_size,)]
    assert [query.graph[p].shape for p in query.graph.outputs] == [(len(query.constraints),)]
    for _ in range(points):
        x = np.float32(np.round(rng.uniform(lower, upper) * 64) / 64).astype(np.float64)
        y, rows = outputs_of(query, x), rows_of(query, x)

        def lookup(variable: tuple[str, int], x: np.ndarray = x, y: np.ndarray = y) -> Fraction:
            role, start = prop.offsets[variable[0]]
            return Fraction(float((x if role is Role.INPUT else y)[start + variable[1]]))

        exact = [c.value(lookup) for c in query.constraints]
        assert np.allclose(rows, [float(v) for v in exact], rtol=1e-12, atol=1e-12)
        holds = [c.holds(v) for c, v in zip(query.constraints, exact, strict=True)]
        assert [c.strict for c in query.constraints] == list(query.strict)
        violated = any(
            r.box.contains(x) and any(all(holds[i] for i in case) for case in r.cases) for r in query.regions
        )
        assert violated == prop.violated(x, y)


CONDITIONS = {
    "linear": ["(<= Y_0 Y_1)", "(>= (+ (* 0.1 Y_2) Y_1) 0.3)"],
    "disjunction": ["(or (and (<= Y_0 1.5) (> Y_1 Y_2)) (and (>= X_0 -1) (<= Y_2 0.1)))"],
    "polynomial": ["(<= (* Y_0 Y_1) (+ 1 (* Y_2 Y_2 X_1)))", "(>= (* Y_0 Y_0 Y_0 Y_1) (* 2 X_0 X_0))", "(< Y_1 9)"],
    "squares": ["(<= (+ (* Y_0 Y_0) (* X_1 X_1) (* -1 Y_1 Y_1)) 0.3)", "(>= (* Y_0 Y_0) Y_1)"],
    "mixed": ["(<= (+ X_0 X_1) 1.1)", "(<= Y_0 (* 3 X_2))"],
    "region only": [],
}


@pytest.mark.parametrize("shapes", [((1, 4),), ((4,),), ((1, 4), (2, 3))], ids=str)
@pytest.mark.parametrize("conditions", CONDITIONS.values(), ids=CONDITIONS)
def test_rows(conditions: list[str], shapes: tuple) -> None:
    size = sum(int(np.prod(s)) for s in shapes)
    query = bind(parse_property(property_1(size, 3, *conditions)), network(shapes=shapes))
    check_rows(query)
    parts = query.split_inputs(np.arange(size))
    assert {n: p.shape for n, p in parts.items()} == {f"x{i}": s for i, s in enumerate(shapes)}
    assert np.array_equal(np.concatenate([p.reshape(-1) for p in parts.values()]), np.arange(size))


def test_coefficients_are_enclosed() -> None:
    text = property_1(4, 3, "(<= (- (* 0.1 Y_0) (* 0.5 Y_1)) 0.3)", "(<= (- (* 0.25 Y_0) Y_1) 0.7)")
    query = bind(parse_property(text), network())
    margins = query.graph[query.graph.outputs[0]]
    weight, bias = (query.parameters[k] for k in margins.parameters)
    (radius,) = (query.radii[k] for k in margins.parameters if k in query.radii)
    for row, constraint in enumerate(query.constraints):
        assert Fraction(float(bias[row])) <= constraint.constant
        for ((_, i),), coefficient in constraint.terms:
            assert abs(coefficient - Fraction(float(weight[i, row]))) <= Fraction(float(radius[i, row]))
    assert np.count_nonzero(radius) == 1  # only 0.1 is no float64
    exact = bind(parse_property(property_1(4, 3, "(<= Y_0 Y_1)")), network())
    assert not exact.radii


def test_radii_of_the_network_are_kept() -> None:
    builder = GraphBuilder()
    x = builder.input((4,))
    y = builder.add("dense", (x,), (np.ones((4, 3)), np.zeros(3)), radii=(np.full((4, 3), 1e-9), None))
    graph, parameters = builder.build([y])
    model = Model(graph, parameters, (Tensor("x", (4,)),), (Tensor("y", (3,)),), radii=builder.radii)
    query = bind(parse_property(property_1(4, 3, "(<= Y_0 0)")), model)
    assert [r.shape for r in query.radii.values()] == [(4, 3)]
    dense = next(n for n in query.graph.nodes if n.op == "dense")
    assert set(query.radii) == {dense.parameters[0]}


def test_equal_architectures_give_equal_graphs() -> None:
    one = bind(parse_property(property_1(4, 3, "(<= Y_0 Y_1)")), network(1))
    two = bind(parse_property(property_1(4, 3, "(<= (* 0.3 Y_2) 7)")), network(2))
    assert one.graph == two.graph and hash(one.graph) == hash(two.graph)


def test_regions_group_cases_by_box() -> None:
    inputs = "(or (and (>= X_0 0) (<= X_0 0.1)) (and (>= X_0 0.2) (<= X_0 0.3)))"
    outputs = "(or (<= Y_0 Y_1) (<= Y_0 Y_2) (and (<= Y_0 Y_1) (<= Y_1 Y_2)))"
    query = bind(parse_property(property_1(4, 3, inputs, outputs)), network())
    assert len(query.constraints) == 3 and len(query.property.cases) == 6
    assert [r.cases for r in query.regions] == [((0,), (1,), (0, 2))] * 2
    assert sorted(r.box.lower_text[0] for r in query.regions) == ["0", "0.2"]


TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1,4]) (declare-output Y float32 [1,3]))
(declare-network g (RELATION f) (declare-input U float32 [1,4]) (declare-output V float32 [1,3]))
(assert (and BOUNDS))
(assert (or (> (* Y[0,0] V[0,1]) 0.1) (<= (+ X[0,0] (* -0.3 V[0,2])) Y[0,2]) (!= Y[0,1] V[0,1])))
(assert (<= (- X[0,0] U[0,0]) 0.0))
"""
BOUNDS = " ".join(f"(>= {t}[0,{i}] -1.0) (<= {t}[0,{i}] 0.7)" for t in "XU" for i in range(4))


def test_two_networks() -> None:
    prop = parse_property(TWO.replace("RELATION", "isomorphic-to").replace("BOUNDS", BOUNDS))
    query = bind(prop, {"f": network(1), "g": network(2)})
    assert query.semantics == "float32"
    check_rows(query)
    assert set(query.split_inputs(np.zeros(8))) == {"X", "U"} and set(query.split_outputs(np.zeros(6))) == {"Y", "V"}


def test_equal_networks_share_parameters() -> None:
    prop, model = parse_property(TWO.replace("RELATION", "equal-to").replace("BOUNDS", BOUNDS)), network(1)
    query = bind(prop, model)
    check_rows(query)
    assert len(query.parameters) == len(model.parameters) + 2
    assert bind(prop, {"f": model}).graph == query.graph
    with pytest.raises(MismatchError, match="same model"):
        bind(prop, {"f": model, "g": network(2)})


MISMATCHES = [
    (property_1(5, 3), network(), "the property has 5 input variables, the network net has 4"),
    (property_1(4, 2), network(), "the property has 2 output variables"),
    (TWO.replace("RELATION", "isomorphic-to"), network(), "speaks of networks|one model was given|no model"),
    (TWO.replace("RELATION", "isomorphic-to"), {"f": network()}, "no model was given for network g"),
    (TWO.replace("RELATION", "equal-to"), {"f": network(), "h": network()}, "network h is not declared"),
    (
        TWO.replace("RELATION", "equal-to"),
        network(dtype="float64"),
        "declared as float32, the tensor x0 of the model is float64",
    ),
    (TWO.replace("RELATION", "equal-to"), network(shapes=((2, 2),)), "shape"),
    (TWO.replace("RELATION", "equal-to"), network(shapes=((1, 4), (1, 4))), "declares 1 input tensors"),
]


@pytest.mark.parametrize(("text", "models", "message"), MISMATCHES, ids=range(len(MISMATCHES)))
def test_mismatches_are_refused(text: str, models: object, message: str) -> None:
    with pytest.raises(MismatchError, match=message):
        bind(parse_property(text.replace("BOUNDS", BOUNDS)), models)


def test_tensors_mapped_by_name() -> None:
    text = """(vnnlib-version <2.0>)
(declare-network f (declare-input B Real [2,3] "x1") (declare-input A Real [1,4] "x0") (declare-output Y Real [3] "y"))
(assert (and BOUNDS))(assert (<= Y[0] (+ B[1,2] A[0,3])))"""
    names = [f"A[0,{i}]" for i in range(4)] + [f"B[{i},{j}]" for i in range(2) for j in range(3)]
    bounds = " ".join(f"(>= {n} -1) (<= {n} 2)" for n in names)
    query = bind(parse_property(text.replace("BOUNDS", bounds)), network(shapes=((1, 4), (2, 3))))
    check_rows(query)
    assert [(p.name, p.onnx_name, p.start) for p in query.inputs] == [("B", "x1", 0), ("A", "x0", 6)]
    with pytest.raises(MismatchError, match="mapped to x9"):
        bind(parse_property(text.replace("BOUNDS", bounds).replace('"x1"', '"x9"')), network(shapes=((1, 4), (2, 3))))
