"""All operator cards, by name."""

from __future__ import annotations

from holdfast.operators.affine import Add, Constant, Dense, Scale
from holdfast.operators.convex import Exp, Log, Power, Reciprocal, Softplus, Sqrt, Square
from holdfast.operators.convolution import Conv, ConvTranspose
from holdfast.operators.inverse_trigonometric import Acos, Asin
from holdfast.operators.operator import Operator
from holdfast.operators.piecewise import Abs, Clip, LeakyRelu, Relu
from holdfast.operators.product import ProductOperator
from holdfast.operators.sigmoidal import Atan, Sigmoid, Tanh
from holdfast.operators.sigmoidal_derivative import AtanDerivative, SigmoidDerivative, TanhDerivative
from holdfast.operators.step import Heaviside
from holdfast.operators.structural import Concat, Expand, Gather, Pad, ReduceSum, Reshape, Slice, Transpose
from holdfast.operators.trigonometric import Cos, Sin, Tan

OPERATORS: dict[str, Operator] = {
    card.name: card
    for card in (
        Dense(), Scale(), Add(), Constant(), Conv(), ConvTranspose(),
        Reshape(), Transpose(), Slice(), Gather(), Concat(), Pad(), Expand(), ReduceSum(),
        Relu(), LeakyRelu(), Abs(), Clip(), Heaviside(), ProductOperator(),
        Sigmoid(), Tanh(), Exp(), Log(), Sqrt(), Square(), Power(), Reciprocal(), Softplus(), Sin(), Cos(),
        Tan(), Asin(), Acos(), Atan(), TanhDerivative(), SigmoidDerivative(), AtanDerivative(),
    )
}  # fmt: skip
INPUT = "input"  # the one node kind without a card: a variable of the network
