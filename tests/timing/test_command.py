"""`gradspec time`: the verdict first, no times without it, and everything in words for people."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gradspec.command import main
from gradspec.timing import command
from gradspec.timing.report import format_seconds
from gradspec.timing.verification import Verification, summarize
from tests.helpers.pytest_runs import ROOT, make_environment

KERNELS = """
import numpy as np
import torch

from gradspec import Real, op
from gradspec.backends import load


@op("(*b,n),(n)->(*b,n)", eps=[1e-6, 1e-2])
def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rms_norm_on_torch(x, weight, *, eps=1e-6):
    return x * torch.rsqrt(torch.mean(x * x, -1, keepdim=True) + eps) * weight


class Tanh(torch.autograd.Function):  # 20 times the work in the backward pass
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return [g * (1 - y * y) for _ in range(20)][0]


class Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x - s)


backend = load("torch").with_ops(
    name="mine", nests=False, rms_norm=rms_norm_on_torch, tanh=Tanh.apply, silu=Silu.apply
)
"""

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that calls the command with verdicts given, and returns its status and its output."""

    def call(*arguments: str, status: int = 0, wrong: Sequence[str] = (), **verdicts: str) -> tuple[int, str]:
        def verify(verify_arguments: Sequence[str]) -> Verification:
            return Verification(status, verdicts, frozenset(wrong))

        monkeypatch.setattr(command, "verify", verify)
        with pytest.raises(SystemExit) as ended:
            sys.exit(main(["time", "--seconds", "0.001", *arguments]))
        captured = capfd.readouterr()
        return int(ended.value.code or 0), captured.out + captured.err

    return call


@pytest.fixture
def only_small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "SIZES", ("overhead", "cache"))


@pytest.mark.usefixtures("only_small_calls")
def test_a_table_has_both_passes_at_each_size_beside_the_others(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    status, output = run("--backend=torch", "--against=numpy", "--json", str(file), softmax="lossy")
    assert status == 0
    assert "softmax of torch in float32, one thread; verdict: lossy" in output
    for text in ("torch", "/ spec", "/ numpy", "overhead", "(128,128)", "forward", "backward", " to "):
        assert text in output
    results = json.loads(file.read_text())
    assert [(cell["size"], cell["pass"]) for cell in results["cells"]] == [
        (size, direction) for size in ("overhead", "cache") for direction in ("forward", "backward")
    ]
    for cell in results["cells"]:
        assert cell["ratios"].keys() == {"spec", "numpy"}
        for spread in (*cell["seconds"].values(), *cell["ratios"].values()):
            assert 0 < spread["low"] <= spread["median"] <= spread["high"]
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.usefixtures("only_small_calls")
def test_a_wrong_op_gets_its_verdict_and_no_times(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    verdicts = {"tanh": "fails: edge", "exp": "agrees"}
    arguments = ("--backend=torch", "--json", str(file))
    status, output = run(*arguments, status=1, wrong=["tanh"], **verdicts)
    assert status == 1
    assert "exp of torch in float32" in output
    assert "tanh of torch in float32" not in output
    assert "not timed  tanh of torch: it is wrong, as said above (fails: edge)" in output
    results = json.loads(file.read_text())
    assert {cell["op"] for cell in results["cells"]} == {"exp"}
    assert results["verdicts"] == verdicts
    assert "tanh of torch" in results["not_timed"]


def test_nothing_of_a_wrong_adapter_is_timed(run: Run) -> None:
    verdicts = {"adapter": "fails: wrong", "exp": "agrees"}
    status, output = run("--backend=torch", status=1, wrong=["adapter"], **verdicts)
    assert status == 1
    assert "not timed  exp of torch: what converts its arrays and differentiates is wrong" in output


@pytest.mark.parametrize("status", [2, 3, 4])
def test_without_a_verdict_there_are_no_times(run: Run, status: int) -> None:
    assert run("--backend=torch", "--op=exp", status=status) == (status, "")


def test_what_is_not_offered_is_said(run: Run) -> None:
    assert run("--backend=torch", "--op=exp", status=5) == (5, "gradspec time: torch does not offer exp\n")


@pytest.mark.usefixtures("only_small_calls")
def test_another_backend_without_the_op_is_told_and_no_failure(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_exp.py").write_text(
        "from gradspec.backends import load\n"
        "backend = load('numpy').with_ops(name='only-exp', exp=load('numpy').ops['exp'])\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status, output = run("--backend=numpy", "--against=only_exp:backend", tanh="agrees")
    assert status == 0
    assert "–" in output
    assert "not compared  tanh of only-exp: it does not offer this op" in output


@pytest.mark.usefixtures("only_small_calls")
def test_a_backend_may_be_compared_with_itself(run: Run) -> None:
    _, output = run("--backend=numpy", "--against=numpy", tanh="agrees")
    assert "/ spec" in output
    assert "/ numpy again" in output


@pytest.mark.usefixtures("only_small_calls")
def test_a_file_that_cannot_be_written_is_told_after_the_times(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    file = tmp_path / "file" / "times.json"
    status, output = run("--backend=numpy", "--json", str(file), tanh="agrees")
    assert status == 1
    assert "verdict: agrees" in output
    assert f"error  {file}: it could not be written" in output.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: --backend"),
        (("--backend=torch", "--seconds=0"), "--seconds 0: it must be above 0"),
        (("--backend=torch", "--seconds=nan"), "--seconds nan: it must be above 0"),
        (("--backend=torch", "--op=programs"), "--op programs: they are verified, and have no times"),
        (("--backend=torch", "--against=torhc"), "--against torhc: no backend 'torhc'; did you mean 'torch'"),
        (("--backend=torch", "--against=cupy"), "--against cupy: no CUDA"),
        (("--backend=torch", "--dtype=int8"), "argument --dtype: invalid choice: 'int8'"),
        (
            ("--backend=torch", "--dtype=float16", "--against=numpy"),
            "--against numpy: it is not verified in float16, but in float64, float32",
        ),
    ],
)
def test_a_wrong_option_is_told_in_a_line(run: Run, arguments: Sequence[str], message: str) -> None:
    status, output = run(*arguments, exp="agrees")
    assert status == 4
    assert output.startswith(f"gradspec time: {message}")
    assert output.count("\n") == 1


def test_other_options_are_those_of_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def verify(arguments: Sequence[str]) -> Verification:
        seen.extend(arguments)
        return summarize(4, [])

    monkeypatch.setattr(command, "verify", verify)
    main(
        ["time", "--backend=torch", "--op=exp", "--op=tanh", "--dtype=float32", "--fail-on=wrong", "-n", "2"]
    )
    assert seen == ["--backend", "torch", "--op", "exp", "--op", "tanh", "--dtype", "float32",
                    "--fail-on=wrong", "-n", "2"]  # fmt: skip


def test_every_option_is_in_the_help_and_the_documents(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["time", "--help"])
    options = {*re.findall(r"--\w[\w-]*", capsys.readouterr().out.partition("exit status")[0])} - {"--help"}
    documented = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert "--against" in options
    assert [option for option in options if option not in documented] == []


def make_entry(op: str, outcome: str, severity: str = "", backend: str = "mine") -> dict[str, Any]:
    return {"op": op, "outcome": outcome, "severity": severity, "backend": backend}


@pytest.mark.parametrize(
    ("entries", "verdict", "has_times"),
    [
        ([make_entry("f", "passed"), make_entry("f", "declined")], "agrees", True),
        ([make_entry("f", "passed", "lossy"), make_entry("f", "passed")], "lossy", True),
        ([make_entry("f", "passed", "edge"), make_entry("f", "passed", "lossy")], "edge", True),
        ([make_entry("f", "known"), make_entry("f", "passed")], "known to deviate", True),
        ([make_entry("f", "passed", "lossy"), make_entry("f", "failed", "edge")], "fails: edge", False),
        ([make_entry("f", "passed"), make_entry("f", "failed", "wrong", "spec")], "fails: wrong", False),
        ([make_entry("f", "passed"), make_entry("f", "failed")], "fails: not tested", False),
        ([make_entry("f", "declined"), make_entry("f", "skipped")], "declined", False),
        ([make_entry("f", "passed"), make_entry("adapter", "failed", "wrong")], "agrees", False),
    ],
)
def test_the_worst_entry_of_an_op_is_its_verdict(
    entries: list[dict[str, Any]], verdict: str, has_times: bool
) -> None:
    """Those of the spec count, too: where one's own formula fails, no kernel has been judged by it."""
    verification = summarize(1, entries)
    assert verification.verdicts["f"] == verdict
    assert (verification.get_obstacle("f") == "") == has_times
    assert verification.get_obstacle("another op")


def test_times_are_written_as_people_write_them() -> None:
    times = (2e-9, 999.4e-9, 999.6e-9, 3.456e-6, 0.012, 2, 120)
    assert [*map(format_seconds, times)] == ["2 ns", "999 ns", "1 us", "3.46 us", "12 ms", "2 s", "120 s"]


def test_threads_are_counted_before_any_library_is_imported() -> None:
    script = (
        "import sys, gradspec.timing.one_thread as t; t.set_thread_counts()\n"
        "print('numpy' in sys.modules, t.describe_thread_counts())"
    )
    for more, expected in ({}, "one thread"), ({"OMP_NUM_THREADS": "4"}, "OMP_NUM_THREADS=4"):
        environment = {k: v for k, v in make_environment().items() if not k.endswith("_NUM_THREADS")} | more
        run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        assert run.stdout.decode().strip() == f"False {expected}"


@pytest.mark.rotating
def test_the_kernel_of_the_example_is_right(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "asv_suite" / "benchmarks" / "my_kernels.py", tmp_path)
    options = ("--dtype=float32", "--seconds=0.01", "--hypothesis-profile=quick", "-p", "no:cacheprovider")
    finished = subprocess.run(
        [sys.executable, "-m", "gradspec", "time", "--backend=my_kernels:backend", *options],
        cwd=tmp_path,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "silu of my-kernels in float32, one thread; verdict: agrees" in finished.stdout


@pytest.mark.rotating
def test_kernels_of_ones_own_are_verified_and_timed(tmp_path: Path) -> None:
    """From their folder, with nothing in place of anything: a right one, a slow one and a wrong one."""
    (tmp_path / "my_kernels.py").write_text(dedent(KERNELS))
    options = ("--backend=my_kernels:backend", "--against=torch", "--json=times.json", "--seconds=0.05")
    laws = ("-k", "every_gradient_agrees or value_agrees or numerical")
    verify_options = ("--hypothesis-profile=quick", "--hypothesis-seed=1", "-p", "no:cacheprovider", *laws)
    finished = subprocess.run(
        [sys.executable, "-m", "gradspec", "time", "--dtype=float32", *options, *verify_options],
        cwd=tmp_path,
        env=make_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "wrong  silu on mine (cpu) breaks a law" in finished.stdout
    assert "not timed  silu of mine: it is wrong, as said above (fails: wrong)" in finished.stdout
    assert "silu of mine in float32" not in finished.stdout
    assert "my_kernels:rms_norm of mine in float32, one thread; verdict: " in finished.stdout
    results = json.loads((tmp_path / "times.json").read_text())
    assert {cell["op"] for cell in results["cells"]} == {"my_kernels:rms_norm", "tanh"}
    tanh = {(c["size"], c["pass"]): c["ratios"] for c in results["cells"] if c["op"] == "tanh"}
    assert len(tanh) == 6
    assert tanh["cache", "backward"]["torch"]["low"] > 1.5
    assert tanh["memory", "backward"]["torch"]["low"] > 1.5
