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
from collections.abc import Sequence
from pathlib import Path

from holdfast_check.arithmetic import Invalid, Limit, Unreadable
from holdfast_check.container import Certificate, open_certificate
from holdfast_check.property import Property, read_property
from holdfast_check.query import Query, join


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


def compared(prop: Property, models: dict[str, bytes], certificate: Certificate) -> None:
    """Raises Invalid unless the certificate is for these networks."""
    hashes = certificate.header["networks"]
    if set(hashes) != set(models):
        raise Invalid(
            f"the certificate is for networks {', '.join(sorted(hashes))}, the property has {', '.join(models)}"
        )
    for name, data in models.items():
        if hashlib.sha256(data).hexdigest() != hashes[name]:
            raise Invalid(f"the certificate is for another network {name} (sha256 {hashes[name][:16]}...)")


def check(options: argparse.Namespace) -> str:
    """One line of figures if the certificate is valid; raises otherwise."""
    begin = time.monotonic()
    deadline, limit = begin + (options.timeout or math.inf), options.memory << 20
    *model, property_path, certificate_path = options.files
    files = dict(item.split("=", 1) for item in options.network)
    text = content(property_path, limit)
    prop = read_property(text)
    names = [n.name for n in prop.networks if not n.same]
    if model:
        files |= {names[0]: model[0]} if len(names) == 1 else {}
    if sorted(files) != sorted(names):
        raise Unreadable(
            f"the property has the networks {', '.join(names)}: give MODEL for one, --network NAME=FILE for several"
        )
    contents = {name: content(path, limit) for name, path in files.items()}
    models = {n.name: contents[n.name if not n.same else next(m for m in names if m == n.same)] for n in prop.networks}
    if not Path(certificate_path).is_file():
        raise Unreadable(f"{certificate_path} is not a file")
    with Path(certificate_path).open("rb") as stream:
        certificate = open_certificate(stream, limit)
        if hashlib.sha256(text).hexdigest() != certificate.header["property"]:
            raise Invalid(f"the certificate is for another property (sha256 {certificate.header['property'][:16]}...)")
        compared(prop, models, certificate)
        query = join(prop, models)
        if certificate.header["semantics"] == "float32" and query.obstacle:
            raise Invalid(f"float32 executions are not covered: {query.obstacle}")
        said = decide(query, certificate, deadline, options.quiet)
    return (
        f"{certificate.header['claim']} ({certificate.header['semantics']}): {said}, {time.monotonic() - begin:.1f} s"
    )


def decide(query: Query, certificate: Certificate, deadline: float, quiet: bool) -> str:
    def report(line: str) -> None:
        if not quiet:
            print(line, file=sys.stderr)

    if certificate.header["claim"] == "sat":
        from holdfast_check.witness import satisfied

        satisfied(query, certificate, deadline=deadline)
        return "the input is a counterexample"
    from holdfast_check.proof import prove

    figures = prove(query, certificate, deadline=deadline, report=report)
    if not query.regions:
        return "the property has no region, so that there is nothing to refute"
    return f"{figures.leaves} leaves, {figures.records} records, {figures.memory:.0f} MiB"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="holdfast-check", description="Check a certificate of the verifier holdfast.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="MODEL PROPERTY CERT, or PROPERTY CERT with --network")
    parser.add_argument(
        "--network", action="append", default=[], metavar="NAME=FILE", help="the ONNX file of a network of the property"
    )
    parser.add_argument(
        "--memory", type=int, default=4096, metavar="MIB", help="largest unpacked size of a file (default 4096)"
    )
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds after which the check is given up")
    parser.add_argument("--quiet", action="store_true", help="nothing on standard error but messages")
    try:
        options = parser.parse_args(argv)
        if (
            len(options.files) != (2 if options.network else 3)
            or not all("=" in n for n in options.network)
            or options.memory < 1
        ):
            parser.error("give MODEL PROPERTY CERT, or PROPERTY CERT and --network NAME=FILE for each network")
    except SystemExit as end:
        return 2 if end.code else 0
    try:
        figures = check(options)
    except Unreadable as error:
        print(f"holdfast-check: {error}", file=sys.stderr)
        return 2
    except (Limit, MemoryError) as error:
        print(f"holdfast-check: limit reached: {error or 'memory'}", file=sys.stderr)
        return 3
    except Exception as error:
        reason = error if isinstance(error, Invalid) else f"the check failed ({type(error).__name__}: {error})"
        print("invalid:", " ".join(str(reason).split())[:500])
        return 1
    print(f"valid\n{figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
