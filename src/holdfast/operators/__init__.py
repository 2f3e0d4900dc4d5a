"""Operator cards, one file per family, and the builder that puts them into a graph."""

from holdfast.operators.builder import GraphBuilder
from holdfast.operators.operator import LinearOperator, Operator, Relaxation, UnaryOperator
from holdfast.operators.product import ProductOperator, ProductRelaxation
from holdfast.operators.registry import INPUT, OPERATORS

__all__ = [
    "INPUT",
    "OPERATORS",
    "GraphBuilder",
    "LinearOperator",
    "Operator",
    "ProductOperator",
    "ProductRelaxation",
    "Relaxation",
    "UnaryOperator",
]
