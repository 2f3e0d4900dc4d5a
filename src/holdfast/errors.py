"""Exceptions a caller may meet.

```text
HoldfastError
├── InputError              the files or arguments are at fault: one sentence, exit status 2
│   ├── ModelError          a network file that cannot be read or is malformed
│   │   └── UnsupportedOperatorError   every missing operator, with node names, at once
│   ├── PropertyError       a property file that cannot be read, or makes no sense
│   ├── MismatchError       a network and a property that do not fit together
│   └── UnsupportedError    a question that makes sense, but that this version cannot decide
└── InternalError           a broken promise of holdfast itself: please report it (exit status 4)
```
"""


class HoldfastError(Exception):
    """Base of all exceptions raised on purpose."""


class InputError(HoldfastError):
    """What was given cannot be used. The message is one sentence: where, what was found, what is accepted."""


class ModelError(InputError):
    """A network file that cannot be read, is malformed, or contains what no verdict can rest on."""


class UnsupportedOperatorError(ModelError):
    """A network that uses operators holdfast has no card for; ``missing`` maps operator to node names."""

    def __init__(self, where: str, missing: dict[str, list[str]]):
        self.missing = {operator: list(nodes) for operator, nodes in missing.items()}
        listed = "; ".join(f"{op} (node {', '.join(nodes)})" for op, nodes in sorted(self.missing.items()))
        super().__init__(f"{where}: unsupported operators: {listed}; `holdfast ops` lists what is supported")


class PropertyError(InputError):
    """A property file that cannot be read, is empty, inverted or contradictory."""


class MismatchError(InputError):
    """A network and a property that do not speak of the same inputs and outputs."""


class UnsupportedError(InputError):
    """A question that makes sense, but that this version cannot decide: the file is not at fault."""


class InternalError(HoldfastError):
    """holdfast broke one of its own promises; nothing is claimed."""
