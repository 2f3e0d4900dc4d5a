"""`holdfast-check` as a user meets it: verdicts, exit statuses, one sentence for whatever is wrong, never a traceback."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from evaluation import archive, dense_model, header, model, records

import holdfast_check.__main__ as command
from holdfast_check.__main__ import main

DATA = model(
    [("Gemm", ["x", "w"], ["z"], {"transB": 1}), ("Relu", ["z"], ["y"], {})],
    {"x": [1, 2]},
    {"w": np.float32([[1, -1]])},
)
BOX = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1)))"
HOLDS = (BOX + "(assert (>= Y_0 1.5))").encode()
FAILS = (BOX + "(assert (>= Y_0 0.5))").encode()
LEAF = {"records/000000": records((0, "ROOT", 0, 0, 0.0), (0, "LEAF", 0, 0, 0.0))}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "n.onnx").write_bytes(DATA)
    (tmp_path / "p.vnnlib").write_bytes(HOLDS)
    archive(tmp_path / "c.hfc", header(DATA, HOLDS), LEAF)
    return [str(tmp_path / name) for name in ("n.onnx", "p.vnnlib", "c.hfc")]


def test_valid(files, capsys):
    assert main(files) == 0
    out, err = capsys.readouterr()
    assert out.startswith("valid\nunsat (real): 1 leaves, 2 records") and len(out.splitlines()) == 2
    assert "obligations" in err and "MiB" in err


def test_gzipped_files_are_the_same_files(files, tmp_path, capsys):
    for file in files[:2]:
        with open(file, "rb") as plain:
            packed = gzip.compress(plain.read())
        with open(file, "wb") as out:
            out.write(packed)
    assert main(files) == 0


def test_a_false_claim_is_invalid(files, tmp_path, capsys):
    (tmp_path / "p.vnnlib").write_bytes(FAILS)
    archive(tmp_path / "c.hfc", header(DATA, FAILS), LEAF)
    assert main(files) == 1
    assert capsys.readouterr().out.startswith("invalid: ")


def test_a_counterexample(files, tmp_path, capsys):
    (tmp_path / "p.vnnlib").write_bytes(FAILS)
    for point, status in ((["1", "0.25"], 0), (["1", "0.5"], 1), (["1", "0.75"], 1), (["2", "0"], 1)):
        archive(tmp_path / "c.hfc", header(DATA, FAILS, witness={"x": point}), {})
        assert main(files) == status
    out = capsys.readouterr().out
    assert out.startswith("valid\nsat (real): the input is a counterexample") and out.count("invalid: ") == 3


@pytest.mark.parametrize("name", ["n.onnx", "p.vnnlib"])
def test_other_files_are_noticed(files, tmp_path, name, capsys):
    (tmp_path / name).write_bytes(HOLDS + b"\n" if name == "p.vnnlib" else dense_model(3))
    assert main(files) == 1
    assert "sha256" in capsys.readouterr().out


def test_networks_by_name(files, tmp_path, capsys):
    text = b"""(vnnlib-version <2.0>)(declare-network f (declare-input X real [1,2]) (declare-output Y real [1,1]))
    (declare-network g (equal-to f) (declare-input U real [1,2]) (declare-output V real [1,1]))
    (assert (and (>= X[0,0] 0) (<= X[0,0] 1) (== X[0,1] 0) (>= U[0,0] 0) (<= U[0,0] 1) (== U[0,1] 0) (> (- Y[0,0] V[0,0]) 1.5)))"""
    (tmp_path / "p.vnnlib").write_bytes(text)
    networks = dict.fromkeys("fg", header(DATA, text)["networks"]["N"])
    archive(tmp_path / "c.hfc", header(DATA, text, networks=networks), LEAF)
    model, *rest = files
    assert main([*rest, "--network", f"f={model}"]) == 0
    assert main(files) == 0
    assert main([*rest, "--network", f"f={model}", "--network", f"g={model}"]) == 2  # it is equal to f, and has no file
    archive(tmp_path / "c.hfc", header(DATA, text), LEAF)
    assert main(files) == 1
    assert main([*rest, "--network", f"h={model}"]) == 2
    capsys.readouterr()


@pytest.mark.parametrize(
    "change", [lambda f: [], lambda f: f[:2], lambda f: [*f, "x"], lambda f: [*f, "--memory", "many"]]
)
def test_bad_usage(files, change, capsys):
    with pytest.raises(SystemExit) as end:
        main(change(files))
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and err and "Traceback" not in err


@pytest.mark.parametrize(
    "change",
    [
        lambda f: ["nowhere", *f[1:]],
        lambda f: [f[0], "nowhere", f[2]],
        lambda f: [*f[:2], "nowhere"],
        lambda f: [*f[1:], "--network", "x"],
        lambda f: [f[0], f[0], f[2]],
        lambda f: [f[0], f[2], f[2]],
        lambda f: ["/", f[1], f[2]],
    ],
)
def test_files_that_cannot_be_used(files, change, capsys):
    assert main(change(files)) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "Traceback" not in err


def test_an_unreadable_network_is_not_a_verdict(files, tmp_path, capsys):
    data = model([("Elu", ["x"], ["y"], {})], {"x": [1, 2]})
    (tmp_path / "n.onnx").write_bytes(data)
    archive(tmp_path / "c.hfc", header(data, HOLDS), LEAF)
    assert main(files) == 2
    assert "Elu" in capsys.readouterr().err


def test_broken_gzip(files, tmp_path, capsys):
    (tmp_path / "n.onnx").write_bytes(gzip.compress(DATA)[:-9])
    assert main(files) == 2


@pytest.mark.parametrize(
    "error", [MemoryError, RecursionError, ZeroDivisionError, KeyError, OverflowError, AssertionError]
)
def test_whatever_goes_wrong_is_not_valid(files, error, monkeypatch, capsys):
    def fail(*_, **__):
        raise error("unforeseen")

    for name, status in (("join", 2), ("prove", 1)):
        monkeypatch.setattr(command, name, fail)
        assert main(files) == (3 if error is MemoryError else status)
        monkeypatch.undo()
        out, err = capsys.readouterr()
        assert "valid" not in out.replace("invalid", "") and "Traceback" not in out + err
        assert len(out.splitlines()) + len(err.splitlines()) == 1


def test_limits(files, tmp_path, capsys):
    big = BOX.encode() + b"(assert (>= Y_0 1.5))" + b" " * 2**21
    (tmp_path / "p.vnnlib").write_bytes(gzip.compress(big))
    archive(tmp_path / "c.hfc", header(DATA, big), LEAF)
    assert main([*files, "--memory", "1"]) == 3
    assert main([*files, "--timeout", "1e-9"]) == 3
    assert main(files) == 0
    assert capsys.readouterr().err.count("limit reached") == 2


def test_random_damage_never_proves_a_false_claim(files, tmp_path, capsys):
    """One bit of any of the three files is flipped: a verdict or a refusal, and never `valid` for a claim that is wrong."""
    rng = np.random.default_rng(11)
    (tmp_path / "p.vnnlib").write_bytes(FAILS)
    archive(tmp_path / "c.hfc", header(DATA, FAILS), LEAF)
    for _ in range(150):
        path = files[rng.integers(3)]
        with open(path, "rb") as file:
            data = file.read()
        broken = bytearray(data)
        broken[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        with open(path, "wb") as file:
            file.write(broken)
        assert main(files) in (1, 2)
        with open(path, "wb") as file:
            file.write(data)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_too_little_memory_is_a_limit(files, tmp_path, capsys):
    steps = [("Expand", ["x", "s"], ["z"], {}), ("ReduceSum", ["z"], ["y"], {})]
    data = model(steps, {"x": [1, 2]}, {"s": np.array([2**25, 2], np.int64)})
    (tmp_path / "n.onnx").write_bytes(data)
    archive(tmp_path / "c.hfc", header(data, HOLDS), LEAF)
    program = [sys.executable, "-m", "holdfast_check", *files, "--memory", "64"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and done.stdout == "" and "MemoryError" in done.stderr


def test_numbers_that_grow_are_refused(files, tmp_path, capsys):
    (tmp_path / "p.vnnlib").write_bytes((BOX + f"(assert (<= (* Y_0 {'1e999 ' * 10**5}) 1))").encode())
    assert main(files) == 2
    steps = [("Mul", ["c", "c"], ["c0"], {}), *[("Mul", [f"c{k}", f"c{k}"], [f"c{k + 1}"], {}) for k in range(60)]]
    data = model([*steps, ("Mul", ["x", "c60"], ["y"], {})], {"x": [1, 2]}, {"c": np.float32(0.1)})
    (tmp_path / "n.onnx").write_bytes(data)
    (tmp_path / "p.vnnlib").write_bytes(HOLDS)
    archive(tmp_path / "c.hfc", header(data, HOLDS), LEAF)
    assert main(files) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_as_a_program(files):
    done = subprocess.run([sys.executable, "-m", "holdfast_check", *files], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("valid\n")
