"""Leaves that the checker cuts further: what is true is proved, what is false is refused soon."""

from __future__ import annotations

import numpy as np
import pytest
from loops import timed
from test_proof import certificate, prove, query, random_network, region, shifted, values

from holdfast_check.arithmetic import Invalid

BOX = [-1.0, -1.0], [1.0, 1.0]
LEAF = [(0, 0, 0, 0, 0.0), (0, 1, 0, 0, 0.0)]


def least(nodes) -> float:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 301)] * 2), axis=-1).reshape(-1, 2)
    return float(values(nodes, grid).min())


@pytest.mark.parametrize("seed", range(4))
def test_one_leaf_is_enough(seed):
    nodes = random_network(np.random.default_rng(seed))
    true = shifted(nodes, 0.05 - least(nodes))
    figures = prove(query(true, region(*BOX, (0,))), certificate(LEAF))
    assert figures.leaves > 1 and figures.records == 2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gap", [1e-9, 1e-3, 0.5])
def test_false_claims_fail_soon(seed, gap):
    nodes = random_network(np.random.default_rng(seed))
    false = shifted(nodes, -gap - least(nodes))

    def refused():
        with pytest.raises(Invalid, match="case 0 is not refuted"):
            prove(query(false, region(*BOX, (0,))), certificate(LEAF))

    assert timed(refused) < 10


def test_queries_are_numbered_through():
    nodes = random_network(np.random.default_rng(0))
    true, false = (shifted(nodes, s - least(nodes)) for s in (0.2, -0.2))
    rows = [(k, kind, k * (kind == 0), 0, 0.0) for k in range(3) for kind in (0, 1)]
    good = query(true, region(*BOX, (0,)), region([0.0, 0.0], [1.0, 1.0], (0,)))
    assert prove([good, query(true, region(*BOX, (0,)))], certificate(rows)).records == 6
    for asked in ([good, query(false, region(*BOX, (0,)))], [query(false, region(*BOX, (0,))), good]):
        with pytest.raises(Invalid):
            prove(asked, certificate(rows))
    with pytest.raises(Invalid):
        prove([good, good], certificate(rows))
