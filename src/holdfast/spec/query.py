"""A property joined with its networks: one graph from the flat inputs to the margins of all constraints.

Last station before bounds and search. Row r of the output is the left side of constraint r, so a case is refuted
on a region as soon as one of its rows is positive there (or zero, where the row is strict).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from holdfast.errors import MismatchError
from holdfast.graph import Graph, Model, Tensor
from holdfast.operators import INPUT, GraphBuilder
from holdfast.spec.property import Constraint, Declaration, Property, Role
from holdfast.spec.region import Box
from holdfast.spec.row import Row
from holdfast.spec.rows import add_rows


@dataclass(frozen=True)
class Port:
    """Where a tensor of a network stands in the flat inputs (or outputs) of the query.

    ``name`` is unique in the query (the property's own name, or the ONNX name for VNN-LIB 1.0); ``shape`` and
    ``dtype`` are the network's.
    """

    network: str
    name: str
    onnx_name: str
    start: int
    size: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Region:
    """A box and its cases: each a conjunction of row indices; () says that every point is a counterexample."""

    box: Box
    cases: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Query:
    """One question to the engine.

    ``graph`` has one input of shape (n,) and one output of shape (R,), the margins. ``radii`` bounds |real value -
    stored float64| of parameters that are not float64 numbers; constants of rows are rounded down, so margins are
    never too large. ``strict[r]``: the row must be < 0, not <= 0, to be satisfied. ``networks``: the network that each node
    of the graph was copied from ("": none).
    """

    graph: Graph
    parameters: Mapping[str, np.ndarray]
    radii: Mapping[str, np.ndarray]
    strict: np.ndarray
    regions: tuple[Region, ...]
    constraints: tuple[Constraint, ...] | tuple[Row, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    semantics: str  # which executions the property speaks of: "real" or "float32"
    property: Property = field(repr=False)
    models: Mapping[str, Model] = field(repr=False)
    networks: tuple[str, ...] = ()

    def split_inputs(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Flat input (..., n) to tensors by their unique name, in the networks' shapes."""
        return {p.name: _part(x, p) for p in self.inputs}

    def split_outputs(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """Flat output (..., m) to tensors by their unique name, in the networks' shapes."""
        return {p.name: _part(y, p) for p in self.outputs}

    def feeds(self, x: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """What to run each network with: network to ONNX name to array of the file's element type."""
        result: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.models}
        for port in self.inputs:
            result[port.network][port.onnx_name] = np.ascontiguousarray(_part(x, port), dtype=port.dtype)
        return result

    def join_outputs(self, outputs: Mapping[str, Mapping[str, np.ndarray]]) -> np.ndarray:
        """Outputs of all networks (network to ONNX name to array) as the flat vector `Property.violated` takes."""
        flat = [np.asarray(outputs[p.network][p.onnx_name], np.float64).reshape(-1) for p in self.outputs]
        return np.concatenate(flat) if flat else np.zeros(0)


def bind(prop: Property, networks: Mapping[str, Model] | Model) -> Query:
    """Join a property with its network, or with several by name.

    Raises MismatchError where names, numbers, shapes or element types do not fit.
    """
    models = _models(prop, networks)
    ports = [p for declared in prop.networks for p in _ports(prop, declared.name, models[declared.name])]
    inputs = _placed([p for p in ports if prop.declarations[p[0]].role is Role.INPUT])
    outputs = _placed([p for p in ports if prop.declarations[p[0]].role is Role.OUTPUT])

    builder = GraphBuilder()
    source = builder.input((prop.input_size,), "inputs")
    produced: dict[tuple[str, str], int] = {}
    owners: list[str] = []
    for declared in prop.networks:
        model = models[declared.name]
        placed = {p.onnx_name: p for p in inputs if p.network == declared.name}
        owners += [""] * (len(builder) - len(owners))
        positions = _copy(builder, model, source, placed)
        owners += [declared.name] * (len(builder) - len(owners))
        for tensor, position in zip(model.outputs, positions, strict=True):
            produced[(declared.name, tensor.name)] = position

    constraints = tuple(dict.fromkeys(c for case in prop.cases for c in case.constraints))
    parts = [_flat(builder, produced[(p.network, p.onnx_name)]) for p in outputs]
    roles = {name: role for name, (role, _) in prop.offsets.items()}
    if any(roles[tensor] is Role.INPUT for c in constraints for tensor, _ in c.variables):
        parts.append(source)
    features = parts[0] if len(parts) == 1 else builder.add("concat", parts, rounds=False, axis=0)
    shift = {Role.OUTPUT: 0, Role.INPUT: prop.output_size}
    columns = {
        variable: shift[role] + start + variable[1]
        for variable in {v for c in constraints for v in c.variables}
        for role, start in (prop.offsets[variable[0]],)
    }
    graph, parameters = builder.build([add_rows(builder, features, columns, constraints, prop.name)])
    return Query(
        graph,
        parameters,
        dict(builder.radii),
        np.array([c.strict for c in constraints], bool),
        _regions(prop, constraints),
        constraints,
        inputs,
        outputs,
        prop.semantics,
        prop,
        models,
        tuple(owners) + ("",) * (len(graph) - len(owners)),
    )


def _models(prop: Property, networks: Mapping[str, Model] | Model) -> dict[str, Model]:
    """The model of every declared network."""
    names = [d.name for d in prop.networks]
    if isinstance(networks, Model):
        free = [d.name for d in prop.networks if d.equal_to is None]
        if len(free) > 1:
            raise MismatchError(
                f"{prop.name}: the property speaks of networks {', '.join(free)}, but one model was given"
            )
        networks = {free[0]: networks}
    elif prop.version == "1.0" and len(networks) == 1:
        networks = {names[0]: next(iter(networks.values()))}
    unknown = [name for name in networks if name not in names]
    if unknown:
        raise MismatchError(f"{prop.name}: network {unknown[0]} is not declared, the property has {', '.join(names)}")
    result = {}
    for declared in prop.networks:
        model = networks.get(declared.name) or networks.get(declared.equal_to or "")
        if model is None:
            raise MismatchError(f"{prop.name}: no model was given for network {declared.name}")
        result[declared.name] = model
    for declared in prop.networks:
        other = result.get(declared.equal_to or "")
        mine = result[declared.name]
        if other is not None and other is not mine and not (mine.sha256 and mine.sha256 == other.sha256):
            raise MismatchError(f"{prop.name}: networks {declared.name} and {declared.equal_to} must be the same model")
    return result


def _ports(prop: Property, network: str, model: Model) -> list[tuple[int, Port]]:
    """The tensors of one network, each with its place in the order of declarations."""
    result: list[tuple[int, Port]] = []
    for role, tensors in ((Role.INPUT, model.inputs), (Role.OUTPUT, model.outputs)):
        declared = [(i, d) for i, d in enumerate(prop.declarations) if d.network == network and d.role is role]
        if len(declared) == 1 and declared[0][1].shape is None:  # VNN-LIB 1.0: one count for all tensors
            size = sum(math.prod(t.shape) for t in tensors)
            if size != declared[0][1].size:
                raise MismatchError(
                    f"{prop.name}: the property has {declared[0][1].size} {role.value} variables, "
                    f"the network {model.name or network} has {size} ({_shapes(tensors)})"
                )
            result += [(declared[0][0], _port(network, t.name, t)) for t in tensors]
            continue
        if len(declared) != len(tensors):
            raise MismatchError(
                f"{prop.name}: the property declares {len(declared)} {role.value} tensors of network {network}, "
                f"the model has {len(tensors)} ({_shapes(tensors)})"
            )
        by_name = {t.name: t for t in tensors}
        for (i, d), in_order in zip(declared, tensors, strict=True):
            tensor = in_order if d.onnx_name is None else by_name.get(d.onnx_name)
            if tensor is None:
                raise MismatchError(
                    f"{prop.name}: {role.value} {d.name} is mapped to {d.onnx_name}, the model has {', '.join(by_name)}"
                )
            _check(prop, d, tensor)
            result.append((i, _port(network, d.name, tensor)))
        chosen = [port.onnx_name for i, port in result if prop.declarations[i].role is role]
        if len(set(chosen)) != len(chosen):
            raise MismatchError(f"{prop.name}: two tensors of network {network} are mapped to one tensor of the model")
    return result


def _check(prop: Property, declared: Declaration, tensor: Tensor) -> None:
    if [n for n in declared.shape or () if n != 1] != [n for n in tensor.shape if n != 1]:
        raise MismatchError(
            f"{prop.name}: {declared.name} is declared with shape {list(declared.shape or ())}, "
            f"the tensor {tensor.name} of the model has shape {list(tensor.shape)}"
        )
    if declared.dtype not in ("real", tensor.dtype):
        raise MismatchError(
            f"{prop.name}: {declared.name} is declared as {declared.dtype}, "
            f"the tensor {tensor.name} of the model is {tensor.dtype}"
        )


def _port(network: str, name: str, tensor: Tensor) -> Port:
    return Port(network, name, tensor.name, 0, math.prod(tensor.shape), tuple(tensor.shape), tensor.dtype)


def _placed(ports: list[tuple[int, Port]]) -> tuple[Port, ...]:
    """Ports in the order of declaration, one behind the other."""
    start, result = 0, []
    for _, port in sorted(ports, key=lambda p: p[0]):
        result.append(replace(port, start=start))
        start += port.size
    return tuple(result)


def _copy(builder: GraphBuilder, model: Model, source: int, ports: Mapping[str, Port]) -> list[int]:
    """Append the network, fed from slices of the flat input; returns the positions of its outputs."""
    graph, place = model.graph, {}
    fed = {position: ports[t.name] for position, t in zip(graph.inputs, model.inputs, strict=True)}
    for position, node in enumerate(graph.nodes):
        if node.op == INPUT:
            port, value = fed[position], source
            if builder.shape(source) != (port.size,):
                value = builder.add("slice", (source,), rounds=False, slices=((port.start, port.size, 1),))
            if builder.shape(value) != node.shape:
                value = builder.add("reshape", (value,), rounds=False, shape=node.shape)
            place[position] = value
            continue
        place[position] = builder.add(
            node.op,
            [place[i] for i in node.inputs],
            [model.parameters[key] for key in node.parameters],
            radii=[model.radii.get(key) for key in node.parameters],
            name=node.name,
            rounds=node.rounds,
            part=node.part,
            **dict(node.attributes),
        )
    return [place[position] for position in graph.outputs]


def _flat(builder: GraphBuilder, position: int) -> int:
    shape = builder.shape(position)
    return position if len(shape) == 1 else builder.add("reshape", (position,), rounds=False, shape=(math.prod(shape),))


def _regions(prop: Property, constraints: Sequence[Constraint]) -> tuple[Region, ...]:
    row = {constraint: r for r, constraint in enumerate(constraints)}
    boxes: dict[int, tuple[Box, dict[tuple[int, ...], None]]] = {}
    for case in prop.cases:
        _, cases = boxes.setdefault(id(case.box), (case.box, {}))
        cases[tuple(row[c] for c in case.constraints)] = None
    return tuple(Region(box, tuple(cases)) for box, cases in boxes.values())


def _part(x: np.ndarray, port: Port) -> np.ndarray:
    x = np.asarray(x)
    return x[..., port.start : port.start + port.size].reshape(*x.shape[:-1], *port.shape)


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{t.name} {list(t.shape)}" for t in tensors)
