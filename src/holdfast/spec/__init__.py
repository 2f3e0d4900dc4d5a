"""Properties: regions with exact decimal bounds, constraints, and their union with networks into queries."""

from holdfast.spec.property import Case, Constraint, Declaration, NetworkDeclaration, Property, Role
from holdfast.spec.query import Port, Query, Region, bind
from holdfast.spec.region import Box

__all__ = [
    "Box",
    "Case",
    "Constraint",
    "Declaration",
    "NetworkDeclaration",
    "Port",
    "Property",
    "Query",
    "Region",
    "Role",
    "bind",
]
