"""Sets that are carried through systems: Taylor models with symbolic remainders."""
