"""The command `holdfast-check`: files in, one verdict out.

Exit status 0: `valid`. 1: `invalid: ...`. 2: bad usage, or a network or property that cannot be used. 3: out of time or memory.
Whatever goes wrong, foreseen or not, is one of the last three, in one sentence.
"""

import argparse
import gzip
import hashlib
import io
import math
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast_check.arithmetic import Invalid, Limit, Unreadable
from holdfast_check.container import open_certificate
from holdfast_check.proof import prove
from holdfast_check.property import read_property
from holdfast_check.query import Query, join
from holdfast_check.witness import satisfied


def content(path: str, limit: int) -> bytes:
    """The bytes of a file, unpacked if it is gzipped."""
    with Path(path).open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = (gzip.GzipFile(fileobj=file) if packed else file).read(limit + 1)
    if len(data) > limit:
        raise Limit(f"{path} is larger than {limit >> 20} MiB (--memory)")
    return data


def read(options: argparse.Namespace, limit: int) -> tuple[Query, dict[str, Any], bytes]:
    """The question, the digests of its files, and the certificate."""
    text, certificate = (content(path, limit) for path in options.files[-2:])
    prop = read_property(text)
    names = [n.name for n in prop.networks if not n.same]
    given = dict(item.split("=", 1) for item in options.network) or dict.fromkeys(names[:1], options.files[0])
    if sorted(given) != sorted(names):
        raise Unreadable(f"the property has the networks {', '.join(names)}: give --network NAME=FILE for each one")
    models = {n.name: content(given[n.same or n.name], limit) for n in prop.networks}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in models.items()}
    return join(prop, models), {"property": hashlib.sha256(text).hexdigest(), "networks": hashes}, certificate


def verdict(query: Query, digests: dict[str, Any], data: bytes, limit: int, deadline: float) -> str:
    """One line of figures if the certificate is valid; raises otherwise."""
    certificate = open_certificate(io.BytesIO(data), limit)
    header = certificate.header
    for key, digest in digests.items():
        if header[key] != digest:
            raise Invalid(f"the certificate is for another {key} (sha256): {header[key]}")
    claim = f"{header['claim']} ({header['semantics']})"
    if header["claim"] == "sat":
        satisfied(query, certificate)
        return f"{claim}: the input is a counterexample"
    figures = prove(query, certificate, deadline=deadline, report=lambda line: print(line, file=sys.stderr))
    return f"{claim}: {figures.leaves} leaves, {figures.records} records"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="holdfast-check", description="Check a certificate of the verifier holdfast.")
    parser.add_argument("files", nargs="+", help="MODEL PROPERTY CERT, or PROPERTY CERT with --network")
    parser.add_argument("--network", action="append", default=[], metavar="NAME=FILE", help="a network of the property")
    parser.add_argument("--memory", type=int, default=4096, metavar="MIB", help="largest size of a file (default 4096)")
    parser.add_argument("--timeout", type=float, default=math.inf, metavar="S", help="seconds before it gives up")
    options = parser.parse_args(argv)
    if len(options.files) != (2 if options.network else 3):
        parser.error("give MODEL PROPERTY CERT, or PROPERTY CERT and --network NAME=FILE for each network")
    begin, limit, status, where = time.monotonic(), options.memory << 20, 2, sys.stderr
    if argv is None:  # a process of its own: twice this beyond what is in use, where the system tells that (Linux)
        with suppress(OSError, ValueError):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2 * limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        question = read(options, limit)
        status, where = 1, sys.stdout
        figures = verdict(*question, limit, begin + options.timeout)
        print(f"valid\n{figures}, {time.monotonic() - begin:.1f} s")
        return 0
    except (Limit, MemoryError) as error:
        print(f"holdfast-check: limit reached ({type(error).__name__}): {error}", file=sys.stderr)
        return 3
    except Exception as error:
        said = str(error) if isinstance(error, Invalid | Unreadable) else f"{type(error).__name__}: {error}"
        print("invalid:" if status == 1 else "holdfast-check:", " ".join(said.split())[:500], file=where)
        return status


if __name__ == "__main__":
    sys.exit(main())
