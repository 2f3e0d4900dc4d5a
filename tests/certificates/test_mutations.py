"""Corrupted certificates: none is accepted unless what is left is a true proof, and a false claim is never accepted."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mutations import HARMLESS, MUTATIONS, Archive
from questions import Question, asked, certify, check, question

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
    about = asked(folder, neurons=options.get("neurons", False), activation=options.pop("activation", "Relu"))
    prop, certificate = about.false if false else about.true, folder / "certificate.hfc"
    result = certify(about.network, prop, certificate, **options)
    assert result.certificate is not None and not result.certificate.missing, result
    assert check(about.network, prop, certificate) == (0, "valid")
    return about, prop, certificate


@pytest.mark.parametrize("kind", KINDS)
def test_no_corruption_is_accepted(kind: str, tmp_path: Path) -> None:
    about, prop, certificate = made(kind, tmp_path)
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
            status, said = check(about.network, prop, mutant)
            tried[name] += 1
            assert status in (0, 1) and said.startswith("valid" if status == 0 else "invalid: "), (
                name,
                seed,
                status,
                said,
            )
            accepted[name] += status == 0
            explained = name in HARMLESS and not (name == "early leaf" and kind.startswith("neurons"))
            if status == 0 and not explained:
                left, right = (Archive.read(d).members | {"end.json": b""} for d in (data, original))
                assert left == right, f"{name} {seed} was accepted"  # else a bit of the archive's own bookkeeping
    assert sum(tried.values()) > 200, tried


@pytest.mark.parametrize("kind", ["boxes", "neurons"])
def test_a_false_claim_is_never_accepted(kind: str, tmp_path: Path) -> None:
    """The proof of the true property, given out as one of the false one, and everything that can be done to it."""
    about, _, certificate = made(kind, tmp_path)
    stolen = Archive.read(certificate.read_bytes())
    header = stolen.header
    header["property"] = hashlib.sha256(about.false.read_bytes()).hexdigest()
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
            status, said = check(about.network, about.false, mutant)
            assert status == 1 and said.startswith("invalid: "), (name, seed, status, said)
            count += 1
    assert count > 250


def test_other_network_other_property(tmp_path: Path) -> None:
    about, prop, certificate = made("boxes", tmp_path / "a")
    other = question(tmp_path / "b", 4)
    assert check(other.network, prop, certificate)[0] == 1
    assert check(about.network, other.true, certificate)[0] == 1
    assert check(about.network, about.false, certificate)[0] == 1
