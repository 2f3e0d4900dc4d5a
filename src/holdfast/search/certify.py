"""The certificate of one question: begun when the search knows how it will split, completed when it has proved, else removed.

Stands between `verify` and the searches, which only see a `CertificateWriter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.certificate import CertificateError, CertificateWriter, claim
from holdfast.certificate.readable import require_readable
from holdfast.errors import InputError
from holdfast.spec.query import Query
from holdfast.verdict import CertificateStatus, Counterexample


@dataclass(eq=False)
class Recording:
    """Where and of what a certificate is written."""

    path: Path
    query: Query
    semantics: str
    writer: CertificateWriter | None = None
    missing: str = field(default="the answer is not a proof")

    def begin(self, entries: Mapping[str, Any]) -> CertificateWriter:
        """Start the certificate of an `unsat` answer.

        Raises CertificateError where it could not be checked, InputError where the file cannot be written.
        """
        for model in self.query.models.values():
            require_readable(model.operators)
        self.writer = self._open("unsat", entries)
        return self.writer

    def refused(self, reason: CertificateError) -> None:
        """There will be none: ``reason``."""
        self.missing = str(reason)

    def proved(self) -> CertificateStatus:
        """Complete it."""
        if self.writer is None:
            return CertificateStatus(missing=self.missing)
        size = self.writer.finish()
        return CertificateStatus(str(self.path), self.writer.leaves, size)

    def found(self, witness: Counterexample, certain: bool) -> CertificateStatus:
        """The certificate of a counterexample: its input, exactly."""
        self.given_up()
        if not certain:
            return CertificateStatus(
                missing="rounding decides at the counterexample, so exact evaluation does not prove it"
            )
        try:
            for model in self.query.models.values():
                require_readable(model.operators)
        except CertificateError as reason:
            return CertificateStatus(missing=str(reason))
        writer = self._open("sat", {"witness": {self._tensor(name): _texts(witness, name) for name in witness.inputs}})
        return CertificateStatus(str(self.path), 0, writer.finish())

    def given_up(self) -> CertificateStatus:
        """Remove what was begun."""
        if self.writer is not None:
            self.writer.discard()
            self.writer = None
        return CertificateStatus(missing=self.missing)

    def _open(self, verdict: str, entries: Mapping[str, Any]) -> CertificateWriter:
        import holdfast

        networks = {name: model.sha256 for name, model in self.query.models.items()}
        header = claim(
            verdict, self.semantics, networks, self.query.property.sha256,
            producer=f"holdfast {holdfast.__version__}", **entries,
        )  # fmt: skip
        try:
            return CertificateWriter(self.path, header)
        except OSError as error:
            raise InputError(f"{self.path}: the certificate cannot be written ({error.strerror})") from None

    def _tensor(self, name: str) -> str:
        """The tensor's name in the property; of version 1.0, which has none, in the network."""
        return next(
            p.onnx_name if self.query.property.version == "1.0" else p.name for p in self.query.inputs if p.name == name
        )


def _texts(witness: Counterexample, name: str) -> list[str]:
    """Exact numbers, flat: C99 hexadecimal, or the decimal where the element type has no number inside the region."""
    decimals = witness.decimals.get(name, {})
    flat = np.asarray(witness.inputs[name], np.float64).reshape(-1)
    return [decimals.get(i) or float(x).hex() for i, x in enumerate(flat)]
