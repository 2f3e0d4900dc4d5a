"""The only place that knows about floating point: unit roundoffs, error terms, outward rounding."""

from holdfast.rigor.rounding import (
    FLOAT32,
    FLOAT64,
    PLAIN,
    PLAIN32,
    Arithmetic,
    gamma,
    round_down,
    round_up,
)

__all__ = ["FLOAT32", "FLOAT64", "PLAIN", "PLAIN32", "Arithmetic", "gamma", "round_down", "round_up"]
