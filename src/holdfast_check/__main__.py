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
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from holdfast_check.arithmetic import Invalid, Limit, Unreadable
from holdfast_check.container import open_certificate
from holdfast_check.escape import escapes
from holdfast_check.loop import obligations
from holdfast_check.problem_file import document_of, read_problem, understood
from holdfast_check.proof import assumed, prove
from holdfast_check.property import read_property
from holdfast_check.query import Query, join
from holdfast_check.tube import header_of, tube_verdict
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


def read_loop(options: argparse.Namespace, limit: int) -> tuple[bytes, bytes, Callable[[str], bytes]]:
    """The problem file, the certificate, and its networks: those given, else beside the file."""
    given, folder = dict(item.split("=", 1) for item in options.network), Path(options.files[0]).parent
    problem, certificate = (content(path, limit) for path in options.files)
    return problem, certificate, lambda path: content(given.get(path, str(folder / path)), limit)


def loop_verdict(text: bytes, data: bytes, files: Callable[[str], bytes], limit: int, deadline: float) -> str:
    """One line of figures if the certificate of a closed loop is valid; raises otherwise."""
    document_of(text)  # first of all: whether it is a problem file
    if (found := header_of(data, limit)) is not None:
        return tube_verdict(text, found, files, deadline)
    certificate = open_certificate(io.BytesIO(data), limit)
    header = certificate.header
    if header["format"] != "holdfast-loop-certificate" or header["problem"] != hashlib.sha256(text).hexdigest():
        raise Invalid("the certificate is for another problem (sha256), or not for a closed loop")
    if not isinstance(header["instance"], str):
        raise Invalid("the certificate does not name an instance")
    problem = read_problem(text, header["instance"], files)
    understood(problem)
    claim = f"{header['claim']} ({header['instance'] or 'the problem'})"

    def tick() -> None:
        if time.monotonic() > deadline:
            raise Limit("the time ran out before all conditions were checked")

    if header["claim"] == "falsified":
        escapes(problem, header["escape"], tick)
    else:
        todo = obligations(problem, header["proofs"], tick)
    named = problem.used.keys() | (problem.paths() & header["networks"].keys())
    digests = {path: hashlib.sha256(problem.used.get(path) or files(path)).hexdigest() for path in named}
    if digests != header["networks"]:
        raise Invalid("the certificate is for other networks (sha256)")
    if header["claim"] == "falsified":
        return f"{claim}: the trajectory leaves the set"
    for one in todo.contractions:
        one.check(tick)

    def told(line: str) -> None:
        print(line, file=sys.stderr)

    own = todo.own and prove(todo.own, assumed(todo.own), deadline=deadline, report=told)
    figures = prove(todo.numbered, certificate, deadline=deadline, report=told)
    leaves = figures.leaves + (own.leaves if own else 0)
    return f"{claim}: {leaves} boxes, {figures.records} records"


def verdict(query: Query, digests: dict[str, Any], data: bytes, limit: int, deadline: float) -> str:
    """One line of figures if the certificate is valid; raises otherwise."""
    certificate = open_certificate(io.BytesIO(data), limit)
    header = certificate.header
    for key, digest in digests.items():
        if header.get(key) != digest:
            raise Invalid(f"the certificate is for another {key} (sha256): {header[key]}")
    claim = f"{header['claim']} ({header['semantics']})"
    if header["claim"] == "sat":
        satisfied(query, certificate)
        return f"{claim}: the input is a counterexample"
    figures = prove(query, certificate, deadline=deadline, report=lambda line: print(line, file=sys.stderr))
    return f"{claim}: {figures.leaves} leaves, {figures.records} records"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="holdfast-check", description="Check a certificate of the verifier holdfast.")
    parser.add_argument(
        "files", nargs="+", help="MODEL PROPERTY CERT, PROPERTY CERT with --network, or PROBLEM.toml CERT"
    )
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a network, by the name that the property or problem gives it",
    )
    parser.add_argument("--memory", type=int, default=4096, metavar="MIB", help="largest size of a file (default 4096)")
    parser.add_argument("--timeout", type=float, default=math.inf, metavar="S", help="seconds before it gives up")
    options = parser.parse_args(argv)
    loop = len(options.files) == 2 and options.files[0].endswith(".toml")
    if not loop and len(options.files) != (2 if options.network else 3):
        parser.error("give MODEL PROPERTY CERT, or PROPERTY CERT and --network NAME=FILE each, or PROBLEM.toml CERT")
    begin, limit, status, where = time.monotonic(), options.memory << 20, 2, sys.stderr
    if argv is None:  # a process of its own: twice this beyond what is in use, where the system tells that (Linux)
        with suppress(OSError, ValueError):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 2 * limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        question: Any = (read_loop if loop else read)(options, limit)
        status, where = 1, sys.stdout
        decide: Any = loop_verdict if loop else verdict
        figures = decide(*question, limit, begin + options.timeout)
        print(f"valid\n{figures}, {time.monotonic() - begin:.1f} s")
        return 0
    except (Limit, MemoryError) as error:
        print(f"holdfast-check: limit reached ({type(error).__name__}): {error}", file=sys.stderr)
        return 3
    except Exception as error:
        if loop and isinstance(error, Unreadable | OSError):  # whatever the certificate says
            status, where = 2, sys.stderr
        said = str(error) if isinstance(error, Invalid | Unreadable) else f"{type(error).__name__}: {error}"
        print("invalid:" if status == 1 else "holdfast-check:", " ".join(said.split())[:500], file=where)
        return status


if __name__ == "__main__":
    sys.exit(main())
