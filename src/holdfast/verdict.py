"""What an answer is: verdict, reason, counterexample, result.

Plain frozen data, the last thing every question ends in; knows nothing of how it was found.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


class Verdict(enum.Enum):
    """The four possible answers (contract: docs/soundness.md)."""

    VERIFIED = "verified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"

    @property
    def vnnlib(self) -> str:
        """The word VNN-LIB uses for it: a property file describes the counterexamples."""
        return {"verified": "unsat", "falsified": "sat"}.get(self.value, self.value)

    @property
    def exit_status(self) -> int:
        """0 proved, 1 refuted, 3 undecided."""
        return {"verified": 0, "falsified": 1}.get(self.value, 3)


class Reason(enum.Enum):
    """Why the search stopped; every value reads as a sentence."""

    PROVED = "every part of the input region was refuted as a counterexample by outward-rounded bounds"
    VACUOUS_REGION = "vacuous: the property describes no input at all"
    VACUOUS_OUTPUT = "vacuous: the property's output condition can hold for no output at all"
    WITNESS = "a counterexample was found and replayed"
    THIN = "a candidate violates the property only within rounding error, so neither proof nor witness exists"
    TIME = "the time limit was reached"
    MEMORY = "the memory budget was reached"
    PRECISION = "sub-problems became too small to split further in floating point"
    INCOMPLETE = "the method used cannot refine its bounds any further"
    INTERRUPTED = "the search was interrupted"
    UNSUPPORTED = "this version cannot decide the claim"


@dataclass(frozen=True)
class Counterexample:
    """A concrete violation.

    ``inputs``/``outputs`` map tensor names to arrays in the network's own shape; outputs are those of
    onnxruntime. ``decimals`` holds input values that the network's element type cannot represent inside the region
    (flat index to decimal text, per input). ``proved`` says that outward-rounded evaluation over the reals violates
    the property at that point too; otherwise the case is thin: rounding decides.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    proved: bool
    decimals: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Escape:
    """A trajectory of a closed loop that leaves a set it was claimed never to leave, enclosed, not only simulated.

    From ``state`` (in the set; exact numbers) with constant ``disturbances`` and ``parameters`` the loop is within
    [``low``, ``high``] at ``time`` (seconds; maps: 1 step), and there the inequality number ``side`` of the set (``text``) is
    violated by at least ``margin``. ``radius`` (ode): the trajectory stays within state +- radius until then.
    """

    property: int
    side: int
    text: str
    state: tuple[float, ...]
    disturbances: tuple[float, ...]
    parameters: tuple[float, ...]
    time: float
    radius: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    margin: float


@dataclass(frozen=True)
class Refutation:
    """A state that contradicts a claim about a closed loop, other than by leaving a set: it is proved to lie in [``low``, ``high``].

    ``text`` says what is the case there, with constant ``disturbances`` and ``parameters``. Where low = high it is that state.
    """

    property: int
    text: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    disturbances: tuple[float, ...]
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Violation:
    """A trajectory of a closed loop that violates what is claimed of trajectories, enclosed, not only simulated.

    It starts in ``state`` with the unknown constants ``parameters``; ``disturbances``: their values one after the other, each from the given
    time on, constant in between (all of these are exact numbers as text). The claim certainly does not hold for it; property
    ``property`` hangs on the inequality ``text`` at ``time`` (seconds; maps: steps), which ``holds`` there or not by at least ``margin`` (in its own
    unit), as the state is within [``low``, ``high``].
    """

    property: str
    text: str
    holds: bool
    state: tuple[str, ...]
    parameters: tuple[str, ...]
    disturbances: tuple[tuple[str, tuple[str, ...]], ...]
    time: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    margin: float


@dataclass(frozen=True)
class CertificateStatus:
    """What became of the certificate that was asked for: its file, or the reason why there is none.

    ``leaves``: proved sub-problems it holds; ``size``: bytes of the file. It has not been checked: that is the work of
    the program `holdfast-check`.
    """

    file: str = ""
    leaves: int = 0
    size: int = 0
    missing: str = ""


@dataclass(frozen=True)
class Result:
    """The answer to one question, with what is needed to recompute it."""

    verdict: Verdict
    reason: Reason
    detail: str = ""
    counterexample: Counterexample | Escape | Refutation | Violation | None = None
    bound: float | None = None  # best proved lower bound of the worst margin; > 0 means proved
    seconds: float = 0.0
    statistics: Mapping[str, Any] = field(default_factory=dict)  # sub-problems, splits, phases and their seconds
    semantics: str = "real"
    provenance: Mapping[str, Any] = field(default_factory=dict)  # hashes, seeds, versions, arithmetic
    certificate: CertificateStatus | None = None  # None: not asked for

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary (arrays become nested lists, enumerations their values)."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.name.lower() if isinstance(value, Reason) else value.value
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)  # JSON has no infinities
    return value
