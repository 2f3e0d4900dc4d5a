"""Linear cards: the adjoint and the magnitude against the linear map itself, exactly, on small integers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from holdfast.operators import OPERATORS, GraphBuilder

_CONV = {"strides": (2, 1), "pads": ((1, 0), (1, 2)), "dilations": (1, 2), "groups": 2}
_LINE = {"strides": (2,), "pads": ((1, 1),), "dilations": (1,), "groups": 1}
# card, input shapes, parameter shapes, attributes
CASES = [
    ("dense", [(1, 4)], [(4, 3)], {}),
    ("dense", [(2, 3, 4)], [(4, 5), (5,)], {}),
    ("scale", [(1, 2, 3)], [(2, 1), ()], {}),
    ("scale", [(1, 2, 3)], [(1, 2, 3), (3,)], {}),
    ("add", [(2, 3), (2, 3), (2, 3)], [], {"signs": (1, -1, 1)}),
    ("add", [(2, 3), (2, 3)], [], {"signs": (-1, 1)}),
    ("constant", [], [(2, 3)], {}),
    ("conv", [(1, 4, 6, 7)], [(6, 2, 3, 2), (6,)], _CONV),
    ("conv", [(1, 2, 9)], [(3, 2, 3)], _LINE),
    ("conv", [(1, 1, 4, 4, 3)], [(2, 1, 2, 2, 2)], {"strides": (1, 2, 1), "pads": ((0, 1),) * 3, "dilations": (1,) * 3, "groups": 1}),
    ("conv_transpose", [(1, 6, 3, 8)], [(6, 2, 3, 2), (4,)], {**_CONV, "space": (6, 7)}),
    ("conv_transpose", [(1, 3, 5)], [(3, 2, 3)], {**_LINE, "space": (9,)}),
    ("reshape", [(2, 3, 4)], [], {"shape": (6, 4)}),
    ("transpose", [(2, 3, 4)], [], {"permutation": (2, 0, 1)}),
    ("slice", [(5, 6)], [], {"slices": ((4, 3, -2), (1, 2, 3))}),
    ("slice", [(5, 6)], [], {"slices": ((4, 5, -1), (0, 6, 1))}),
    ("gather", [(3, 4, 2)], [], {"axis": 1, "indices": (3, 0, 0, 2, 0)}),
    ("concat", [(2, 3), (2, 1), (2, 2)], [], {"axis": 1}),
    ("concat", [(1, 3, 2), (2, 3, 2)], [], {"axis": 0}),
    ("pad", [(2, 3)], [], {"pads": ((1, 0), (0, 2))}),
    ("expand", [(3, 1)], [], {"shape": (2, 3, 4)}),
    ("reduce_sum", [(2, 3, 4)], [], {"axes": (0, 2)}),
]  # fmt: skip


def _setup(case, rng):
    op, input_shapes, parameter_shapes, attributes = case
    builder = GraphBuilder()
    inputs = [builder.input(shape) for shape in input_shapes]
    parameters = [rng.integers(-9, 10, shape).astype(float) for shape in parameter_shapes]
    return OPERATORS[op], builder[builder.add(op, inputs, parameters, **attributes)], parameters


@pytest.mark.parametrize(
    ("xp", "lead"), [(np, ()), (np, (3,)), (np, (2, 3)), (jnp, (2, 3))], ids=["point", "row", "rows", "jax"]
)
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}{c[1]}")
def test_adjoint_and_magnitude_belong_to_the_linear_map(case, lead, xp):
    rng = np.random.default_rng(5)
    card, node, parameters = _setup(case, rng)
    x = [rng.integers(-9, 10, (*lead, *shape)).astype(float) for shape in node.input_shapes]
    inputs = [xp.asarray(v) for v in x]
    y = np.asarray(card.linear(xp, node, parameters, inputs))
    bias = card.bias(xp, node, parameters)
    if not x:  # a constant: no input to lead the way
        assert y.shape == node.shape
        assert (np.asarray(card.evaluate(xp, node, parameters, inputs)) == parameters[0]).all()
        assert card.adjoint(xp, node, parameters, xp.ones((*lead, *node.shape))) == ()
        return
    assert y.shape == (*lead, *node.shape)
    assert (
        np.asarray(card.evaluate(xp, node, parameters, inputs)) == y + (0 if bias is None else np.asarray(bias))
    ).all()
    a = rng.integers(-9, 10, y.shape).astype(float)
    back = [np.asarray(b) for b in card.adjoint(xp, node, parameters, xp.asarray(a))]
    assert [b.shape for b in back] == [v.shape for v in x]
    axes = tuple(range(len(lead), a.ndim))
    right = sum((b * v).sum(axis=tuple(range(len(lead), v.ndim))) for b, v in zip(back, x, strict=True))
    assert ((a * y).sum(axis=axes) == right).all()

    # column by column: |L| e_i = |L e_i|, and no more than `terms` products meet in one element
    matrix = _matrix(card, xp, node, parameters, card.linear)
    assert (_matrix(card, xp, node, parameters, card.magnitude) == abs(matrix)).all()
    terms = card.terms(node, parameters)
    assert max((matrix != 0).sum(0).max(), (matrix != 0).sum(1).max()) <= terms


def _matrix(card, xp, node, parameters, linear):
    """The matrix of a linear map on all inputs, flattened."""
    sizes = [int(np.prod(shape)) for shape in node.input_shapes]
    unit = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    inputs = [xp.asarray(u.reshape(-1, *shape)) for u, shape in zip(unit, node.input_shapes, strict=True)]
    return np.asarray(linear(xp, node, parameters, inputs)).reshape(sum(sizes), -1)


def test_cards_are_all_covered():
    from holdfast.operators import LinearOperator

    assert {name for name, card in OPERATORS.items() if isinstance(card, LinearOperator)} == {case[0] for case in CASES}
