"""The frozen intermediate representation: structure (`Graph`, `Node`) and parameters, apart."""

from holdfast.graph.graph import Graph, Node, Shape
from holdfast.graph.model import Model, Tensor

__all__ = ["Graph", "Model", "Node", "Shape", "Tensor"]
