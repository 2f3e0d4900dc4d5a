"""Integrators: enclosures of the solutions of differential equations, one file each, with one contract (`holdfast.plant.flow`)."""
