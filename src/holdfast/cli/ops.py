"""`holdfast ops`: what is supported, or what a network uses and what of it is missing, before anything runs.

Also `holdfast supports`, the capability query of the VNN-LIB 2.0 standard's solver command line.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from holdfast.cli.contract import BAD_INPUT, Debug, complain, emit, require_file, verb
from holdfast.errors import InputError
from holdfast.report.table import table

# Names of theories: VNN-LIB 2.0 standard, "The supports Command".
CAPABILITIES = MappingProxyType(
    {
        "--vnnlib-versions": ("1.0", "2.0"),
        "--onnx-opset-versions": ("6", "21"),
        "--onnx-element-types": ("float32", "real"),
        "--hidden-node-theories": ("NH",),
        "--multiple-input-output-theories": ("MIO",),
        "--multiple-network-theories": ("SNET", "MENET", "MINET"),
        "--multiple-node-comparison-theories": ("SNC", "MNC"),
        "--arithmetic-complexity-theories": ("BND", "OUTC", "LIN", "POLY"),
        "--optimised-disjunctive-reasoning": ("false",),
        "--serialise-assignments": ("false",),
        "--unsat-proofs": ("false",),
    }
)


@verb
def ops(
    network: Annotated[Path | None, typer.Argument(metavar="[NET]", help="network.onnx")] = None,
    debug: Debug = False,
) -> int:
    """List the supported ONNX operators; for a network, what it uses and what is missing (exit status 2 if any)."""
    if network is None:
        emit("\n".join(supported()))
        return 0
    require_file(network, "network")
    from holdfast.load.onnx import operators_of

    report = operators_of(network)
    counts = {**report.used, **{name: report.used.get(name, len(nodes)) for name, nodes in report.missing.items()}}
    rows = [(name, str(n), "MISSING" if name in report.missing else "yes") for name, n in sorted(counts.items())]
    emit(table(("operator", "nodes", "supported"), rows))
    if not report.missing:
        return 0
    missing = "; ".join(f"{name} (node {', '.join(nodes)})" for name, nodes in sorted(report.missing.items()))
    complain(f"{network}: unsupported operators: {missing}; `holdfast ops` lists what is supported")
    return BAD_INPUT


@verb
def supports(
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", help="e.g. --onnx-operators")],
    debug: Debug = False,
) -> int:
    """Answer a capability query of the VNN-LIB 2.0 standard, one item a line."""
    if capability == "--onnx-operators":
        emit("\n".join(supported()))
    elif capability in CAPABILITIES:
        emit("\n".join(CAPABILITIES[capability]))
    else:
        raise InputError(
            f"supports {capability}: unknown capability; accepted are {', '.join([*CAPABILITIES, '--onnx-operators'])}"
        )
    return 0


def supported() -> list[str]:
    """The ONNX operators that the loader can translate, sorted."""
    from holdfast.load.onnx import supported_operators

    return sorted(supported_operators())
