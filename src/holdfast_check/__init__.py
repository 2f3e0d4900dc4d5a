"""An independent check of the certificates of the verifier holdfast, written to be read.

A certificate says: no input of a property is a counterexample for a network (or: this one is). It holds choices, never
conclusions. The checker computes every bound again, in outward arithmetic, and says `valid` or `invalid`.

In the order of the data: `container` (the file), `property` and `network` (what is claimed about what), `query` (both joined),
`arithmetic`, `relaxations`, `bounds` (the mathematics), `proof` (the claim "unsat") and `witness` (the claim "sat"). Of closed loops: `problem`,
`loop` (sets that are never left); of flow tubes: `tube` and what it names.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # many small products: threads compete; read when numpy is loaded
