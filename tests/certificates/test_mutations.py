"""Corrupted certificates: none is accepted unless what is left is a true proof, and a false claim is never accepted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mutations import HARMLESS, MUTATIONS, Archive
from questions import Question, certify, check, question

KINDS = {
    "boxes": dict(),
    "boxes-float32": dict(semantics="float32"),
    "neurons": dict(neurons=True),
    "neurons-smooth": dict(neurons=True, activation="Sigmoid"),
    "witness": dict(false=True),
}
EACH = 14  # mutants of every sort, for every kind of certificate


def made(kind: str, folder: Path) -> tuple[Question, Path, Path]:
    """The question of a kind, the property its certificate is of, and the certificate."""
    options = dict(KINDS[kind])
    false = options.pop("false", False)
    asked = question(folder, 3, activation=options.pop("activation", "Relu"))
    prop, certificate = asked.false if false else asked.true, folder / "certificate.hfc"
    result = certify(asked.network, prop, certificate, **options)
    assert result.certificate is not None and not result.certificate.missing, result
    assert check(asked.network, prop, certificate) == (0, "valid")
    return asked, prop, certificate


@pytest.mark.parametrize("kind", KINDS)
def test_no_corruption_is_accepted(kind: str, tmp_path: Path) -> None:
    asked, prop, certificate = made(kind, tmp_path)
    original = certificate.read_bytes()
    mutant = tmp_path / "mutant.hfc"
    tried, accepted = Counter(), Counter()
    for number, (name, mutate) in enumerate(MUTATIONS.items()):
        for seed in range(EACH):
            changed = mutate(Archive.read(original), np.random.default_rng([number, seed]))
            if changed is None:
                continue
            data = changed if isinstance(changed, bytes) else changed.write()
            if data == original:
                continue
            mutant.write_bytes(data)
            status, said = check(asked.network, prop, mutant)
            tried[name] += 1
            assert status in (0, 1) and said.startswith("valid" if status == 0 else "invalid: "), (name, seed, status, said)
            accepted[name] += status == 0
            if status == 0 and name not in HARMLESS:
                same = Archive.read(data).members == Archive.read(original).members
                assert same, f"{name} {seed} was accepted"  # a flipped bit of the archive's own bookkeeping
    assert sum(tried.values()) > 250, tried


@pytest.mark.parametrize("kind", ["boxes", "neurons"])
def test_a_false_claim_is_never_accepted(kind: str, tmp_path: Path) -> None:
    """The proof of the true property, given out as one of the false one, and everything that can be done to it."""
    asked, _, certificate = made(kind, tmp_path)
    stolen = Archive.read(certificate.read_bytes())
    header = stolen.header
    import hashlib

    header["property"] = hashlib.sha256(asked.false.read_bytes()).hexdigest()
    stolen.header = header
    original = stolen.write()
    mutant = tmp_path / "mutant.hfc"
    count = 0
    for number, (name, mutate) in enumerate(MUTATIONS.items()):
        for seed in range(EACH):
            changed = mutate(Archive.read(original), np.random.default_rng([number, seed, 1]))
            if changed is None:
                continue
            mutant.write_bytes(changed if isinstance(changed, bytes) else changed.write())
            status, said = check(asked.network, asked.false, mutant)
            assert status == 1 and said.startswith("invalid: "), (name, seed, status, said)
            count += 1
    assert count > 250


def test_other_network_other_property(tmp_path: Path) -> None:
    asked, prop, certificate = made("boxes", tmp_path / "a")
    other = question(tmp_path / "b", 4)
    assert check(other.network, prop, certificate)[0] == 1
    assert check(asked.network, other.true, certificate)[0] == 1
    assert check(asked.network, asked.false, certificate)[0] == 1
