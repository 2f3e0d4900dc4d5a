"""`holdfast ops`: what is supported, or what a network uses and what of it is missing, before anything runs.

Also `holdfast supports`, the capability query of the VNN-LIB 2.0 standard's solver command line.
"""

from __future__ import annotations

from collections import Counter
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
        emit("\n".join(name if variables else f"{name} (of constants)" for name, variables in supported().items()))
        return 0
    require_file(network, "network")
    from holdfast.load.onnx import operators_of

    report = operators_of(network)
    lacking = Counter(name.split(" ")[0] for name, nodes in report.missing.items() for _ in nodes)
    rows = [
        (name, str(n), f"MISSING ({lacking[name]} nodes)" if name in lacking else "yes")
        for name, n in sorted({**lacking, **report.used}.items())
    ]
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
        emit("\n".join(name for name, variables in supported().items() if variables))
    elif capability == "--onnx-opset-versions":
        from holdfast.load.onnx import OPSETS

        emit("\n".join(map(str, OPSETS)))
    elif capability in CAPABILITIES:
        emit("\n".join(CAPABILITIES[capability]))
    else:
        raise InputError(
            f"supports {capability}: unknown capability; accepted are {', '.join([*CAPABILITIES, '--onnx-operators', '--onnx-opset-versions'])}"
        )
    return 0


def supported() -> dict[str, bool]:
    """The ONNX operators the loader can translate, sorted; False for those it accepts on constants only."""
    from holdfast.load.folding import FOLDS
    from holdfast.load.lowering import RULES
    from holdfast.load.lowering import supported as is_supported

    return {name: name in RULES for name in sorted({*RULES, *FOLDS}) if is_supported(name)}
