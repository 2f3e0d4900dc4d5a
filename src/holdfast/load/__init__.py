"""Loaders: files of the outside world -> models, properties, problems. The heavy packages are imported when needed."""

from holdfast.load.onnx import OperatorReport, load_model, operators_of

__all__ = ["OperatorReport", "load_model", "operators_of"]
