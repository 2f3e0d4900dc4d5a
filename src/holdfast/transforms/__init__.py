"""Functions from graphs to graphs, and evaluation."""

from holdfast.transforms.compose import compose, embed, parallel
from holdfast.transforms.derivative import derivative, directional_derivative
from holdfast.transforms.evaluate import evaluate
from holdfast.transforms.simplify import Simplified, simplify

__all__ = ["Simplified", "compose", "derivative", "directional_derivative", "embed", "evaluate", "parallel", "simplify"]
