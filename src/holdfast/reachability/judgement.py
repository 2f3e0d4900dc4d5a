"""What enclosures of atoms say about predicates: known to hold, possible, and by how much a predicate fails to be known.

Part of `observation`. Three-valued logic of Kleene, a whole batch at a time; what is not a number is never known.
"""

from __future__ import annotations

import numpy as np

from holdfast.spec.formula import Formula

Array = np.ndarray


def known_atoms(low: Array, high: Array, strict: Array) -> tuple[Array, Array]:
    """Whether g <= 0 (``strict``: g < 0) for all g in [low, high] (..., K), and whether for some."""
    known = np.where(strict, high < 0, high <= 0)
    possible = ~np.where(strict, low >= 0, low > 0)
    return known, possible


def judged(formula: Formula, known: Array, possible: Array) -> tuple[Array, Array]:
    """The same of a formula over atoms (..., K) -> (...)."""
    match formula.operator:
        case "atom":
            return known[..., formula.atom], possible[..., formula.atom]
        case "!":
            k, p = judged(formula.arguments[0], known, possible)
            return ~p, ~k
    join = np.logical_and if formula.operator == "&" else np.logical_or
    if not formula.arguments:
        whole = np.full(known.shape[:-1], formula.operator == "&")
        return whole, whole
    found = [judged(a, known, possible) for a in formula.arguments]
    return join.reduce([k for k, _ in found]), join.reduce([p for _, p in found])


def shortfall(formula: Formula, low: Array, high: Array) -> tuple[Array, Array]:
    """By how much a formula fails to be known, from atoms in [low, high] (F, K), and the atom (F,) that it hangs on.

    Not negative where the formula is not known to hold; it is the negative of a lower bound of its robustness (Donzé, Maler, Robust
    satisfaction of temporal logic over real-valued signals, FORMATS 2010). In plain arithmetic: it explains, nothing rests on it.
    """
    below, _, number, _ = _robustness(formula, np.nan_to_num(low, nan=-np.inf), np.nan_to_num(high, nan=np.inf))
    return -below, number


def _robustness(formula: Formula, low: Array, high: Array) -> tuple[Array, Array, Array, Array]:
    """Bounds of the robustness, and the atoms that they hang on."""
    if formula.operator == "atom":
        k = formula.atom
        number = np.full(len(low), k)
        return -high[:, k], -low[:, k], number, number
    if formula.operator == "!":
        below, above, first, second = _robustness(formula.arguments[0], low, high)
        return -above, -below, second, first
    if not formula.arguments:
        end = np.full(len(low), np.inf if formula.operator == "&" else -np.inf)
        return end, end, np.zeros(len(low), np.int64), np.zeros(len(low), np.int64)
    found = [_robustness(a, low, high) for a in formula.arguments]
    choose = np.argmin if formula.operator == "&" else np.argmax
    below, above = np.stack([f[0] for f in found]), np.stack([f[1] for f in found])
    i, j, at = choose(below, 0), choose(above, 0), np.arange(len(low))
    first, second = np.stack([f[2] for f in found])[i, at], np.stack([f[3] for f in found])[j, at]
    return below[i, at], above[j, at], first, second
