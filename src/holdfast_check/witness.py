"""The claim "sat": one input lies in a region, and all rows of one case are satisfied there (section 9 of the format).

The input is exact, and so is its comparison with the box. It is enclosed by neighbouring float64 numbers; on that box the rows are
bounded from above as everywhere (`bounds`), with what any float32 execution may add.
"""

import numpy as np

from holdfast_check.arithmetic import Invalid
from holdfast_check.bounds import forward, graph_of, least, substitute
from holdfast_check.container import Certificate
from holdfast_check.property import enclosing, number
from holdfast_check.query import Query


@np.errstate(all="ignore")
def satisfied(query: Query, certificate: Certificate) -> None:
    """Raises Invalid unless the witness certainly is a counterexample."""
    given, float32 = certificate.header["witness"], certificate.header["semantics"] == "float32"
    if {name: len(values) for name, values in given.items()} != dict(query.names):
        raise Invalid(f"the witness does not have the input tensors {dict(query.names)}")
    point = [number(text) for name, _ in query.names for text in given[name]]
    if float32 and any(float(np.float32(float(q))) != q for q in point):
        raise Invalid("the witness is not a float32 input")
    boxes = [(zip(r.exact_lower, point, r.exact_upper, strict=True), r.cases) for r in query.regions]
    cases = [case for box, cases in boxes if all(a <= x <= b for a, x, b in box) for case in cases]
    low, high = (enclosing(point, upper)[None] for upper in (False, True))
    graph = graph_of(query.nodes, query.inputs, float32, lambda: None)
    ranges = forward(graph, (low, high), {})
    if float32 and not all(np.isfinite(ends).all() for ends in (*ranges.lower, *ranges.upper)):
        raise Invalid("an execution may overflow at the witness, and then nothing is known")
    for case in map(list, cases):
        rows = np.zeros((1, len(case), len(query.strict)))
        rows[0, range(len(case)), case] = -1.0
        top = -least(ranges.box, *substitute(graph, ranges, {query.output: rows}))[0]
        top = np.fmin(top, ranges.upper[query.output][0, case])  # the smaller one that is a number
        if np.all(np.where(query.strict[case], top < 0, top <= 0)):
            return
    what = "rounding decides at this point, or it is no counterexample" if cases else "it lies in no region"
    raise Invalid(f"the witness is refused: {what}")
