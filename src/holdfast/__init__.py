"""Proofs about neural networks and the systems they control: the public names, loaded when first used.

``import holdfast`` itself loads neither numpy nor jax nor onnx, so that the command line starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.api import bound, find_invariant, load_problem, load_property, reach, verify, verify_problem
    from holdfast.bounds.bounder import Bounds
    from holdfast.certificate.check import Check, check
    from holdfast.errors import (
        HoldfastError,
        InputError,
        InternalError,
        MismatchError,
        ModelError,
        PropertyError,
        UnsupportedError,
        UnsupportedOperatorError,
    )
    from holdfast.graph import Model
    from holdfast.load import load_model as load
    from holdfast.load.function import load_function
    from holdfast.load.python_loop import Loop
    from holdfast.reachability.tube import Boxes, Tube
    from holdfast.spec.property import Property
    from holdfast.verdict import CertificateStatus, Counterexample, Escape, Reason, Refutation, Result, Verdict

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "Boxes",
    "CertificateStatus",
    "Check",
    "Counterexample",
    "Escape",
    "HoldfastError",
    "InputError",
    "InternalError",
    "Loop",
    "MismatchError",
    "Model",
    "ModelError",
    "Property",
    "PropertyError",
    "Reason",
    "Refutation",
    "Result",
    "Tube",
    "UnsupportedError",
    "UnsupportedOperatorError",
    "Verdict",
    "bound",
    "check",
    "find_invariant",
    "load",
    "load_function",
    "load_problem",
    "load_property",
    "reach",
    "verify",
    "verify_problem",
]

_HOME = {
    "Bounds": "holdfast.bounds.bounder",
    **dict.fromkeys(("Boxes", "Tube"), "holdfast.reachability.tube"),
    "Check": "holdfast.certificate.check",
    "Loop": "holdfast.load.python_loop",
    "Model": "holdfast.graph",
    "check": "holdfast.certificate.check",
    "load_function": "holdfast.load.function",
    "Property": "holdfast.spec.property",
    **dict.fromkeys(
        ("bound", "find_invariant", "load_problem", "load_property", "reach", "verify", "verify_problem"),
        "holdfast.api",
    ),
    **dict.fromkeys(
        ("CertificateStatus", "Counterexample", "Escape", "Reason", "Refutation", "Result", "Verdict"),
        "holdfast.verdict",
    ),
    **dict.fromkeys((name for name in __all__ if name.endswith("Error")), "holdfast.errors"),
}


def __getattr__(name: str) -> Any:
    if name == "load":  # the sub-package of that name; calling it is `load_model`
        return import_module("holdfast.load")
    if name not in _HOME:
        raise AttributeError(f"module 'holdfast' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
