"""What an answer about an instance says beside its evidence: the verdict that a reason means, and which networks it is about.

Last station of a decision; shared by the claims about sets and those about trajectories.
"""

from __future__ import annotations

from holdfast.spec.temporal import Instance
from holdfast.verdict import Reason, Verdict


def networks_of(instance: Instance) -> dict[str, str]:
    """Files as the problem names them, and their hashes."""
    found: dict[str, str] = {}
    controller = instance.document.get("controller", {})
    if instance.loop.controller is not None:
        names = controller["networks"] if "networks" in controller else [controller["network"]]
        found |= {name: model.sha256 for name, model in zip(names, instance.loop.controller.networks, strict=True)}
    used = {getattr(s, "function", None) for p in instance.properties for s in (p.states, p.target)}
    used |= {p.function for p in instance.properties}
    for name, function in instance.loop.functions.items():
        if name in used and function.network is not None:
            found[instance.document["functions"][name]["network"]] = function.network.sha256
    return found


def verdict_of(reason: Reason) -> Verdict:
    """What a reason to stop means for a claim about a closed loop."""
    return {
        Reason.PROVED: Verdict.VERIFIED,
        Reason.VACUOUS_REGION: Verdict.VERIFIED,
        Reason.VACUOUS_OUTPUT: Verdict.VERIFIED,
        Reason.WITNESS: Verdict.FALSIFIED,
        Reason.TIME: Verdict.TIMEOUT,
    }.get(reason, Verdict.UNKNOWN)
