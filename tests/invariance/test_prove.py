"""A condition that could be taken for proved without any proof is refused."""

from __future__ import annotations

import pytest

from holdfast.errors import InternalError
from holdfast.invariance.features import linear_forms
from holdfast.invariance.prove import prove
from holdfast.search.budget import Budget
from holdfast.spec.condition import Condition
from holdfast.spec.query import Region
from holdfast.spec.region import Box
from holdfast.spec.row import row


def test_a_case_without_rows_is_never_proved() -> None:
    place = Region(Box.of([0], [1]), ((0,), ()))
    condition = Condition("nothing", ("x",), linear_forms([[1]], [0], 1), (row({0: 1}, 1, "x <= -1"),), (place,))
    with pytest.raises(InternalError, match="without rows"):
        prove(condition, Budget(5), 1)
