"""Loaders: files of the outside world -> models, properties, problems. The heavy packages are imported when needed.

The package is itself callable, since it shares its name with the verb: ``holdfast.load(path)`` is `load_model`.
"""

import sys
from os import PathLike
from pathlib import Path
from types import ModuleType

from holdfast.graph import Model
from holdfast.load.onnx import OperatorReport, load_model, operators_of

__all__ = ["OperatorReport", "load_model", "operators_of"]


class _CallableModule(ModuleType):
    def __call__(self, path: str | PathLike[str], *, check: bool = True) -> Model:
        return load_model(Path(path), check=check)


sys.modules[__name__].__class__ = _CallableModule
