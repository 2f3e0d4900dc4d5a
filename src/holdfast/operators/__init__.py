"""Operator cards, one file per family, and the builder that puts them into a graph."""

from holdfast.operators.builder import GraphBuilder
from holdfast.operators.operator import LinearOperator, Operator, ProductOperator, Relaxation, UnaryOperator
from holdfast.operators.registry import INPUT, OPERATORS

__all__ = [
    "INPUT",
    "OPERATORS",
    "GraphBuilder",
    "LinearOperator",
    "Operator",
    "ProductOperator",
    "Relaxation",
    "UnaryOperator",
]
