"""Functions from graphs to graphs, and evaluation."""

from holdfast.transforms.evaluate import evaluate

__all__ = ["evaluate"]
