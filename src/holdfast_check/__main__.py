"""The command `holdfast-check`: files in, one verdict out.

Exit status 0: `valid`. 1: `invalid: ...`. 2: bad usage, or a network or property that cannot be used. 3: out of time or memory.
Whatever goes wrong unforeseen is `invalid`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import math
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast_check.arithmetic import Invalid, Limit, Unreadable
from holdfast_check.container import Certificate, open_certificate
from holdfast_check.proof import prove
from holdfast_check.property import Property, read_property
from holdfast_check.query import Query, join
from holdfast_check.witness import satisfied


def content(path: str, limit: int) -> bytes:
    """The bytes of a file, unpacked if it is gzipped."""
    try:
        with Path(path).open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            data = gzip.GzipFile(fileobj=file).read(limit + 1) if packed else file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(f"{path} cannot be read ({error})") from None
    if len(data) > limit:
        raise Limit(f"memory: {path} is larger than {limit >> 20} MiB (--memory)")
    return data


@contextmanager
def limited(mib: int) -> Iterator[None]:
    """Twice this much memory beyond what is already in use, where the system can limit it; more raises MemoryError."""
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):
        yield
        return
    old = resource.getrlimit(resource.RLIMIT_AS)
    room = used + (mib << 21)
    resource.setrlimit(resource.RLIMIT_AS, (room if old[1] < 0 else min(room, old[1]), old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def networks(prop: Property, options: argparse.Namespace, limit: int) -> dict[str, bytes]:
    """The ONNX file of each network of the property; one that is equal to another needs none of its own."""
    given = dict(item.split("=", 1) for item in options.network)
    own = [n.name for n in prop.networks if not n.same]
    if not options.network and len(own) == 1:
        given = {own[0]: options.files[0]}
    if not set(own) <= set(given) <= {n.name for n in prop.networks}:
        raise Unreadable(
            f"the property has networks {', '.join(own)}: give MODEL for one, --network NAME=FILE for several"
        )
    found: dict[str, bytes] = {}
    for n in prop.networks:
        found[n.name] = content(given[n.name], limit) if n.name in given else found[n.same]
        if n.same and found[n.name] != found[n.same]:
            raise Unreadable(f"the property says that network {n.name} is equal to {n.same}, their files differ")
    return found


def check(options: argparse.Namespace) -> str:
    """One line of figures if the certificate is valid; raises otherwise."""
    begin, limit = time.monotonic(), options.memory << 20
    deadline = begin + (math.inf if options.timeout is None else options.timeout)
    *_, property_path, certificate_path = options.files
    text = content(property_path, limit)
    prop = read_property(text)
    models = networks(prop, options, limit)
    if not Path(certificate_path).is_file():
        raise Unreadable(f"{certificate_path} is not a file")
    with Path(certificate_path).open("rb") as stream:
        certificate = open_certificate(stream, limit)
        header = certificate.header
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in models.items()}
        if hashlib.sha256(text).hexdigest() != header["property"]:
            raise Invalid(f"the certificate is for another property (sha256 {header['property'][:16]}...)")
        for name in sorted(header["networks"].items() ^ hashes.items()):
            raise Invalid(f"the certificate is for another network {name[0]} (sha256 {name[1][:16]}...)")
        query = join(prop, models)
        if header["semantics"] == "float32" and query.obstacle:
            raise Invalid(f"float32 executions are not covered: {query.obstacle}")
        said = decide(query, certificate, deadline, options.quiet)
    return f"{header['claim']} ({header['semantics']}): {said}, {time.monotonic() - begin:.1f} s"


def decide(query: Query, certificate: Certificate, deadline: float, quiet: bool) -> str:
    if certificate.header["claim"] == "sat":
        satisfied(query, certificate, deadline=deadline)
        return "the input is a counterexample"
    say = (lambda _: None) if quiet else (lambda line: print(line, file=sys.stderr))
    figures = prove(query, certificate, deadline=deadline, report=say)
    if not query.regions:
        return "the property has no region, so that there is nothing to refute"
    return f"{figures.leaves} leaves, {figures.records} records, {figures.memory:.0f} MiB"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="holdfast-check", description="Check a certificate of the verifier holdfast.")
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="MODEL PROPERTY CERT, or PROPERTY CERT with --network")
    add(
        "--network", action="append", default=[], metavar="NAME=FILE", help="the ONNX file of a network of the property"
    )
    add("--memory", type=int, default=4096, metavar="MIB", help="largest size of a file, unpacked (default 4096)")
    add("--timeout", type=float, metavar="S", help="seconds after which the check is given up")
    add("--quiet", action="store_true", help="nothing on standard error but messages")
    options = parser.parse_args(argv)
    named = all("=" in n for n in options.network)
    if len(options.files) != (2 if options.network else 3) or not named or not 0 < options.memory < 2**30:
        parser.error("give MODEL PROPERTY CERT, or PROPERTY CERT and --network NAME=FILE for each network")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    try:
        options = arguments(argv)
    except SystemExit as end:  # argparse has said why
        return 2 if end.code else 0
    try:
        with limited(options.memory):
            figures = check(options)
    except Unreadable as error:
        print(f"holdfast-check: {error}", file=sys.stderr)
        return 2
    except (Limit, MemoryError) as error:
        reason = str(error) if isinstance(error, Limit) else f"memory ({error})"
        print(f"holdfast-check: limit reached: {reason}", file=sys.stderr)
        return 3
    except Exception as error:
        reason = str(error) if isinstance(error, Invalid) else f"the check failed ({type(error).__name__}: {error})"
        print("invalid:", " ".join(reason.split())[:500])
        return 1
    print(f"valid\n{figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
