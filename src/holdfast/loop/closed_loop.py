"""The closed loop as one graph: plant, controller, and everything between, from free variables to x' (or x+).

Free variables are, in this order, the states, the disturbances and the parameters given by an interval; one flat vector.
From here on nobody asks which part of the graph is a network: bounds see one function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from holdfast.errors import InputError, UnsupportedError
from holdfast.graph import Graph, Model, Tensor
from holdfast.operators import GraphBuilder
from holdfast.spec.plant import Function, LoopData, PlantKind, Signals
from holdfast.spec.region import Box
from holdfast.transforms import embed, simplify
from holdfast.transforms.compose import finish
from holdfast.transforms.live_elements import live_elements

_IDLE = ("reshape", "transpose")  # what may stand between a function's last operator and its output
# right sides that are not locally Lipschitz: solutions need not be unique, nor sets with inward flow invariant
JUMPS = ("heaviside",)


@dataclass(frozen=True, eq=False)
class ClosedLoop:
    """x' = f(v), or x+ = f(v), with v = (states, disturbances, parameters).

    ``dynamics``: Model (N,) -> (n,). ``data``: what it was made of. ``singular``: Model (N,) -> (1,), the determinant of
    the mass matrix where there is one.
    """

    kind: PlantKind
    states: tuple[str, ...]
    disturbances: tuple[str, ...]
    parameters: tuple[str, ...]
    dynamics: Model
    data: LoopData
    singular: Model | None = None
    _levels: dict[str, tuple[Model, bool]] = field(default_factory=dict, repr=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the free variables, in order."""
        return (*self.states, *self.disturbances, *self.parameters)

    @property
    def others(self) -> Box:
        """The box of disturbances and parameters."""
        w, p = self.data.plant.disturbances, self.data.plant.parameters
        return Box(
            np.concatenate([w.lower, p.lower]), np.concatenate([w.upper, p.upper]),
            (*w.lower_text, *p.lower_text), (*w.upper_text, *p.upper_text),
        )  # fmt: skip

    def on_states(self, model: Model) -> Model:
        """A formula of the signals that reads states only, as a Model of the states (n,); InputError where it reads others.

        What a set means must not depend on a disturbance or on an unknown parameter.
        """
        names = self.data.plant.signals.names
        for i in _read(model):
            if i >= len(self.states):
                raise InputError(
                    f"a set or function reads {names[i]}; accepted are states, and parameters that are given by a number"
                )
        builder = GraphBuilder()
        x = builder.input((len(self.states),), "states")
        rest = math.prod(model.inputs[0].shape) - len(self.states)
        v = builder.add("concat", [x, _zeros(builder, rest)], axis=0) if rest else x
        outputs = [_vector(builder, o) for o in embed(builder, model, [v])]
        return simplify(
            finish(builder, outputs, (Tensor("states", (len(self.states),)),), model.outputs, model.name)
        ).model

    def function(self, name: str) -> tuple[Model, bool]:
        """The function of that name as Model (n,) -> (1,), and whether its outer sigmoid was left out.

        A sigmoid increases strictly: without it sub-level sets and the sign of derivatives are the same (levels become
        log(c / (1 - c))), and bounds lose nothing where it is flat.
        """
        if name not in self._levels:
            function = self.data.functions[name]
            model, stripped = without_sigmoid(function)
            self._levels[name] = self.on_states(model), stripped
        return self._levels[name]


def close(data: LoopData) -> ClosedLoop:
    """The closed loop of one instance.

    Raises UnsupportedError for what has no single right side: sampled feedback, schedules, selecting controllers (each
    named); InputError for right sides that jump.
    """
    plant, controller = data.plant, data.controller
    signals = plant.signals
    if signals.schedule:
        raise UnsupportedError(
            f"[plant] schedule: a set that is never left is asked of loops without schedule, this one has {', '.join(signals.schedule)}"
        )
    if controller is not None and controller.select is not None:
        raise UnsupportedError(
            "[controller] select: controllers that pick a row are not supported yet for sets that are never left"
        )
    if controller is not None and controller.feedback == "sampled":
        raise UnsupportedError(
            "[controller] feedback: a sampled loop has no right side of its own; see holdfast.loop.sampled"
        )
    builder, variables = start(signals)
    inputs = None if controller is None else control(builder, data, variables)
    v = gather(builder, signals, variables, inputs)
    (outputs,) = embed(builder, plant.dynamics, [v])
    names = (*signals.states, *signals.disturbances, *signals.parameters)
    tensors = (Tensor("variables", (len(names),)),)
    dynamics = simplify(
        finish(builder, [_vector(builder, outputs)], tensors, plant.dynamics.outputs, "closed loop")
    ).model
    if plant.kind == "ode":
        for node in dynamics.graph.nodes:
            if node.op in JUMPS:
                raise InputError(
                    f"{node.name or node.op}: the right side jumps there; invariance needs one that is locally Lipschitz"
                )
    singular = None
    if plant.singular is not None:
        builder, variables = start(signals)
        inputs = None if controller is None else control(builder, data, variables)
        (outputs,) = embed(builder, plant.singular, [gather(builder, signals, variables, inputs)])
        singular = finish(
            builder, [_vector(builder, outputs)], tensors, plant.singular.outputs, "determinant of the mass matrix"
        )
    return ClosedLoop(plant.kind, signals.states, signals.disturbances, signals.parameters, dynamics, data, singular)


def start(signals: Signals) -> tuple[GraphBuilder, Mapping[str, int]]:
    """A new graph with the free variables; the positions of states, disturbances, parameters."""
    builder = GraphBuilder()
    names = {"states": signals.states, "disturbances": signals.disturbances, "parameters": signals.parameters}
    v = builder.input((sum(map(len, names.values())),), "variables")
    found, first = {}, 0
    for name, members in names.items():
        if members:
            found[name] = builder.add("slice", [v], slices=((first, len(members), 1),))
            first += len(members)
    return builder, found


def gather(builder: GraphBuilder, signals: Signals, variables: Mapping[str, int], inputs: int | None) -> int:
    """The flat vector of signals; inputs that are not given are zero."""
    parts = [variables["states"]]
    if signals.inputs:
        parts.append(_zeros(builder, len(signals.inputs)) if inputs is None else inputs)
    parts += [variables[name] for name in ("parameters", "disturbances") if name in variables]
    if signals.schedule:
        parts.append(_zeros(builder, len(signals.schedule)))
    return parts[0] if len(parts) == 1 else builder.add("concat", parts, axis=0)


def control(builder: GraphBuilder, data: LoopData, variables: Mapping[str, int]) -> int:
    """The plant's inputs that the controller computes from the variables."""
    controller = data.controller
    assert controller is not None and controller.plant_inputs is not None
    v = gather(builder, data.plant.signals, variables, None)
    (fed,) = embed(builder, controller.network_inputs, [v])
    outputs = [_vector(builder, o) for o in embed(builder, controller.networks[0], [fed])]
    y = outputs[0] if len(outputs) == 1 else builder.add("concat", outputs, axis=0)
    (inputs,) = embed(builder, controller.plant_inputs, [builder.add("concat", [v, y], axis=0)])
    return _vector(builder, inputs)


def controller_model(data: LoopData) -> Model:
    """Model (variables,) -> the plant's inputs."""
    builder, variables = start(data.plant.signals)
    inputs = control(builder, data, variables)
    width = builder.shape(builder.inputs[0])
    return simplify(
        finish(
            builder, [inputs], (Tensor("variables", width),), (Tensor("inputs", builder.shape(inputs)),), "controller"
        )
    ).model


def _read(model: Model) -> list[int]:
    """Which elements of its one input a model depends on."""
    builder = GraphBuilder()
    v = builder.input(tuple(model.inputs[0].shape), model.inputs[0].name)
    outputs = [_vector(builder, o) for o in embed(builder, model, [v])]
    whole = outputs[0] if len(outputs) == 1 else builder.add("concat", outputs, axis=0)
    size = builder.shape(whole)[0]
    flat = finish(builder, [whole], model.inputs, (Tensor("values", (size,)),), model.name)
    return live_elements(flat, range(size)).inputs.tolist()


def _vector(builder: GraphBuilder, position: int) -> int:
    shape = builder.shape(position)
    return position if len(shape) == 1 else builder.add("reshape", [position], shape=(math.prod(shape),))


def _zeros(builder: GraphBuilder, count: int) -> int:
    return builder.add("constant", [], [np.zeros(count)])


def without_sigmoid(function: Function) -> tuple[Model, bool]:
    """signals -> (1,) without an outer sigmoid, and whether there was one."""
    inner = _without_sigmoid(function)
    return (function.value, False) if inner is None else (_through(function, inner), True)


def _without_sigmoid(function: Function) -> Model | None:
    """The network of a function without its last operator, where that is a sigmoid."""
    if function.network is None or len(function.network.graph.outputs) != 1:
        return None
    graph = function.network.graph
    last = graph.outputs[0]
    while graph[last].op in _IDLE:
        last = graph[last].inputs[0]
    if graph[last].op != "sigmoid":
        return None
    inner = graph[last].inputs[0]
    outputs = (replace(function.network.outputs[0], shape=graph[inner].shape),)
    return replace(function.network, graph=Graph(graph.nodes, graph.inputs, (inner,)), outputs=outputs, source=None)


def _through(function: Function, network: Model) -> Model:
    """signals -> network(arguments(signals))."""
    assert function.arguments is not None
    builder = GraphBuilder()
    signals = function.arguments.inputs
    v = builder.input(tuple(signals[0].shape), signals[0].name)
    arguments: Sequence[int] = embed(builder, function.arguments, [v])
    outputs = [_vector(builder, o) for o in embed(builder, network, arguments)]
    return finish(builder, outputs, signals, network.outputs, function.name)
