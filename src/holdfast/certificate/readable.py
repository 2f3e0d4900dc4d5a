"""What the checker reads (docs/certificates/format.md, section 10), so that `verify` can say at once that it cannot help."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.certificate.writer import CertificateError

OPERATORS = frozenset(
    [
        "Abs",
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "Cos",
        "Div",
        "Dropout",
        "Exp",
        "Expand",
        "Flatten",
        "Gather",
        "Gemm",
        "Identity",
        "LeakyRelu",
        "Log",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "Neg",
        "Pad",
        "Pow",
        "Reciprocal",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Shape",
        "Sigmoid",
        "Sin",
        "Slice",
        "Softplus",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
        "Unsqueeze",
    ]
)


def require_readable(operators: Iterable[str]) -> None:
    """Raises CertificateError where a network uses operators that the checker does not read."""
    missing = sorted(set(operators) - OPERATORS)
    if missing:
        raise CertificateError(f"the checker does not read {', '.join(missing)}")
