"""All operator cards, by name."""

from __future__ import annotations

from holdfast.operators.affine import Add, Constant, Dense, Scale
from holdfast.operators.convolution import Conv, ConvTranspose
from holdfast.operators.operator import Operator, ProductOperator
from holdfast.operators.piecewise import Abs, Clip, LeakyRelu, Relu
from holdfast.operators.structural import Concat, Expand, Gather, Pad, ReduceSum, Reshape, Slice, Transpose

OPERATORS: dict[str, Operator] = {
    card.name: card
    for card in (
        Dense(), Scale(), Add(), Constant(), Conv(), ConvTranspose(),
        Reshape(), Transpose(), Slice(), Gather(), Concat(), Pad(), Expand(), ReduceSum(),
        Relu(), LeakyRelu(), Abs(), Clip(), ProductOperator(),
    )
}  # fmt: skip
INPUT = "input"  # the one node kind without a card: a variable of the network
