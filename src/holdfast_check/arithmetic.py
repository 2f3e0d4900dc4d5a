"""What rounding can cost in float64, and how the checker says no.

All bounds are computed in IEEE float64, rounded to nearest, unit roundoff u = 2^-53, and corrected outwards by error terms that hold
whatever the order of summation, with or without fused multiply-add (Higham, Accuracy and Stability of Numerical Algorithms, 3.1):

    |computed sum of n products - exact| <= gamma_n sum |a_i| |x_i| + (underflow),     gamma_n = n u / (1 - n u).

A number that is not a number never proves anything: comparisons with it are false, and false always means "not proved".
"""

import numpy as np

UNIT = 2.0**-53
TINY = 2.0**-960  # more than what 2^60 underflows, each below 2^-1022, can cost


class Invalid(Exception):
    """The certificate does not prove its claim: which obligation, which row, which bound."""


class Unreadable(Exception):
    """The network or the property cannot be used: what it holds, and where."""


class Limit(Exception):
    """Time or memory ran out before the check was done."""


def gamma(n: int) -> float:
    """2 (n+2) u, more than gamma_(n+2) for n < 2^50; the factor 2 covers the rounding of the error terms themselves."""
    return 2.0 * (n + 2) * UNIT


def plus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """At most a + b. Both roundings cost at most u (|a| + |b|) (1 + 3u) each; 4u (|a| + |b|) is taken off."""
    return (a + b) - 4.0 * UNIT * (np.abs(a) + np.abs(b))


def dot(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(B, R, m) times (B, m) or (1, m) to (B, R): sums of m products in an order that nobody knows."""
    return (rows @ vector[:, :, None])[:, :, 0]


def size(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The largest absolute value in an interval."""
    return np.maximum(np.abs(lower), np.abs(upper))


def outward(lower: np.ndarray, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beyond the exact results whose rounded values these are: rounding to nearest moves a number by less than one neighbour.
    Ends that are no numbers say nothing: they become infinite."""
    lower, upper = np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf)
    return np.where(np.isnan(lower), -np.inf, lower), np.where(np.isnan(upper), np.inf, upper)
