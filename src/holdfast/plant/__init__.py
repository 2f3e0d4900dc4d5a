"""Integrators: enclosures of the solutions of differential equations, one file each."""
