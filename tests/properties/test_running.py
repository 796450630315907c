"""Running the properties: options, shards, budgets, and backends with declared deviations."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from gradspec.properties.running import options
from gradspec.properties.running.budget import Budget
from gradspec.properties.running.report import FailureRecord, RunResults, show_failures, show_matrix
from gradspec.properties.running.selection import split_shard
from gradspec.properties.running.tables import format_tables
from gradspec.properties.running.tally import PropertyResult, Tally
from tests.helpers.pytest_runs import copy_one_property, run_properties


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--backend=tourch", "ERROR: --backend: no backend 'tourch'; did you mean 'torch'"),
        ("--op=layernorm", "ERROR: --op layernorm: no such op; did you mean 'layer_norm'"),
        ("--dtype=float8", "ERROR: --dtype float8: no such dtype; did you mean 'float"),
        (
            "--hypothesis-profile=quik",
            "ERROR: --hypothesis-profile quik: no such profile; did you mean 'quick'",
        ),
        ("--shard=5/4", "ERROR: --shard 5/4: expected I/N with 1 <= I <= N, e.g. 2/4"),
        ("--budget=soon", "ERROR: --budget soon: expected a time above 0, e.g. 90s, 10m or 1h30m"),
        ("--time-limit=0", "ERROR: --time-limit 0: expected a number of seconds above 0"),
        ("--op=program", "ERROR: --op program: no such op; did you mean 'programs'"),
        ("--isolate --no-isolate", "ERROR: --isolate --no-isolate: expected one of them, or neither"),
        ("--backend=numpy --op=silo", "ERROR: --op silo: no such op; did you mean 'silu'"),
        ("--bakcend=numpy", "ERROR: --bakcend: no such option; did you mean --backend?"),
        ("--bakcend numpy", "ERROR: --bakcend: no such option; did you mean --backend?"),
        ("--hypothesis-sed 1", "ERROR: --hypothesis-sed: no such option; did you mean --hypothesis-seed"),
        ("--zzz", "ERROR: --zzz: no such option; those of gradspec are --backend, --op, "),
        ("-p no:xdist -n2", "ERROR: -n2: an option of pytest-xdist, which is not installed"),
        (
            "--backend=one_op:backend --op=silu",
            "ERROR: --op silu: not offered by one-op; it offers tanh",
        ),
        (
            "--backend=one_op:backend --backend=numpy --dtype=bfloat16",
            "ERROR: --dtype bfloat16: not offered by one-op and numpy; there are float64, float32",
        ),
        (
            "--backend=one_op:backend --op=programs",
            "ERROR: --op programs: not offered by one-op; it has no ops that programs are made of",
        ),
        ("--time-limit=nan", "ERROR: --time-limit nan: expected a number of seconds above 0"),
        ("--backend=broken:backend", "ERROR: --backend broken:backend: raised ZeroDivisionError"),
        (
            "--backend=no_law:backend",
            "`known` names law 'valu agrees', which does not exist; did you mean 'value agrees'",
        ),
        ("--backend=no_library:backend", "`known` names 'exp (jaxx<2)', and jaxx is not installed"),
    ],
)
def test_what_does_not_exist_is_named_in_a_line(option: str, line: str, tmp_path: Path) -> None:
    sources = {"broken": "backend = 1 / 0"} | {
        name: f"from dataclasses import replace\nfrom gradspec.backends import load\n"
        f"backend = replace(load('numpy'), name='mine', known={{{where!r}: 'why'}})"
        for name, where in (("no_law", "exp: valu agrees"), ("no_library", "exp (jaxx<2)"))
    }
    sources["one_op"] = "from gradspec.backends import load\nright = load('numpy')\n"
    sources["one_op"] += "backend = right.with_ops(name='one-op', tanh=right.ops['tanh'])\n"
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
    run = run_properties(tmp_path, *option.split(), "--collect-only")
    assert run.status == 4
    assert line in run.output
    assert "Traceback" not in run.output
    assert len(run.output.split()) < 40


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("names", "found", "missing"),
    [
        (("programs",), ("[programs-torch]", "[adapter-torch]"), ("[tanh-torch]", "[exp-torch]", "-spec]")),
        (("tanh",), ("[tanh-torch]", "[adapter-torch]"), ("[programs-torch", "[exp-torch]")),
        (("programs", "tanh"), ("[tanh-torch]", "[programs-torch]"), ("[exp-torch]",)),
        ((), ("[tanh-torch]", "[programs-torch]", "[adapter-torch]", "[exp-torch]"), ()),
    ],
)
def test_programs_are_tried_by_name_or_with_everything(
    names: tuple[str, ...], found: tuple[str, ...], missing: tuple[str, ...], tmp_path: Path
) -> None:
    run = run_properties(tmp_path, "--backend=torch", "--collect-only", "-q", *(f"--op={n}" for n in names))
    assert run.status == 0
    assert [place for place in found if place not in run.output] == []
    assert [place for place in missing if place in run.output] == []


def test_the_adapter_is_tried_first(tmp_path: Path) -> None:
    run = run_properties(tmp_path, "--backend=numpy", "--op=exp", "--collect-only", "-q")
    assert "test_arrays_and_gradients_pass_the_adapter[adapter-numpy]" in run.output.split("\n")[0]


LAW_OF_ONES_OWN_SOURCE = """
from dataclasses import replace
from hypothesis import given, strategies as st
from gradspec.backends import load
from gradspec.properties.laws.value import value_agrees

backend = replace(load("numpy"), name="mine", known={"exp: my law holds": "it does not"})

@given(data=st.data())
def test_my_law_holds(op_under_test, data):
    op_under_test.check_law_on_cases(value_agrees, data)
"""


def test_a_law_of_ones_own_may_be_known(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(LAW_OF_ONES_OWN_SOURCE, encoding="utf-8")
    options = ("--backend=test_mine:backend", "--op=exp", "--collect-only", "-q")
    assert run_properties(tmp_path, *options, properties="test_mine.py").status == 0
    assert run_properties(tmp_path, *options).status == 4  # without it there is no such law


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("90", 90), ("10m", 600), ("1h30m", 5400)])
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    config: Any = SimpleNamespace(getoption=lambda _: text)
    assert options.parse_budget(config) == seconds


def test_shards_are_disjoint_and_complete() -> None:
    items: Any = [SimpleNamespace(nodeid=f"test_{i}", callspec=None) for i in range(17)]
    parts = [split_shard(items, i, 4)[0] for i in (1, 2, 3, 4)]
    assert sorted(x.nodeid for part in parts for x in part) == sorted(x.nodeid for x in items)
    assert parts == [split_shard(items[::-1], i, 4)[0][::-1] for i in (1, 2, 3, 4)]
    assert {len(part) for part in parts} == {4, 5}


def test_a_budget_goes_to_what_has_told_least() -> None:
    budget = Budget(100, ["new", "old"], {"old": 4000})
    assert budget.allot_seconds("new") > 80
    assert Budget(100, ["old", "new"], {"old": 4000}).allot_seconds("old") < 20
    assert 45 < Budget(100, ["a", "b"], {}).allot_seconds("a") <= 50
    assert Budget(100, ["a", "b", "c", "d"], {}, workers=2).allot_seconds("a") > 45


KNOWN_DEVIATIONS_SOURCE = """
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")
backend = replace(
    right,
    name="mine",
    ops={
        "tanh": lambda x: 1.5 * right.ops["tanh"](x),
        "square": right.ops["square"],
        "exp": right.ops["exp"],
    },
    known={"tanh": "a \\x1b[31mbug", "square": "fixed since"},
)
"""


@pytest.mark.rotating
def test_deviations_that_are_declared_are_expected_and_missed_when_gone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(KNOWN_DEVIATIONS_SOURCE, encoding="utf-8")
    properties = copy_one_property(tmp_path)
    options = ("--backend=mine:backend", "--no-isolate", "--hypothesis-profile=default")
    run = run_properties(tmp_path, *options, "--matrix=matrix.json", properties=properties)
    assert run.status == 1
    assert "error  mine: square is declared to deviate (fixed since)" in run.output
    assert re.search(r"\b1 error\b", run.output.splitlines()[-1]), "the last line says that something failed"
    assert "tanh is declared" not in run.output
    assert " failed" not in run.output
    assert not (tmp_path / "failures").exists()
    entries = json.loads((tmp_path / "matrix.json").read_text(encoding="utf-8"))["entries"]
    assert {e["outcome"] for e in entries if e["op"] == "tanh"} >= {"known"}
    assert "\x1b" not in run.output
    partial_run = run_properties(tmp_path, *options, "-k", "square", properties=properties)
    assert partial_run.status == 0  # a part of the properties cannot tell that a deviation is stale
    quick_run = run_properties(tmp_path, *options[:2], "--hypothesis-profile=quick", properties=properties)
    assert quick_run.status == 0  # nor can a few examples


KNOWN_IN_FLOAT32_SOURCE = """
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")


def tanh(x):
    return 1.5 * right.ops["tanh"](x) if x.dtype in WRONG_IN else right.ops["tanh"](x)


backend = replace(right, name="mine", ops={"tanh": tanh}, known={"tanh[float32]: value agrees": "reduced"})
"""


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("wrong_in", "profile", "status", "text"),
    [
        ("float32", "default", 0, "1 xfailed"),
        ("float64", "default", 1, "tanh on mine (cpu) breaks a law: value agrees"),
        ("float64 float32", "default", 1, "tanh on mine (cpu) breaks a law: value agrees"),
        ("", "default", 1, "mine: tanh[float32]: value agrees is declared to deviate (reduced)"),
        ("", "quick", 0, "1 passed"),  # too few examples to say so
    ],
)
def test_a_deviation_declared_in_one_dtype_excuses_no_other(
    tmp_path: Path, wrong_in: str, profile: str, status: int, text: str
) -> None:
    source = f"WRONG_IN = {wrong_in.split()}\n{KNOWN_IN_FLOAT32_SOURCE}"
    (tmp_path / "mine.py").write_text(source, encoding="utf-8")
    options = ("--backend=mine:backend", "--no-isolate", f"--hypothesis-profile={profile}")
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    assert run.status == status
    assert text in run.output


KNOWN_IN_VERSIONS_SOURCE = """
from dataclasses import replace
from gradspec.backends import load

right = load("numpy")


def make(where):
    ops = {"tanh": lambda x: 1.5 * right.ops["tanh"](x), "exp": right.ops["exp"]}
    return replace(right, name="mine", ops=ops, known={where: "a bug"})


tanh_of_old, tanh_of_new = make("tanh (numpy<2)"), make("tanh (numpy>=2): value agrees")
exp_of_old, exp_of_new = make("exp (numpy<2)"), make("exp (numpy>=2)")
"""


@pytest.mark.rotating
@pytest.mark.parametrize(
    ("backend", "op", "status", "text"),
    [
        ("tanh_of_old", "tanh", 1, "tanh on mine (cpu) breaks a law: value agrees"),
        ("tanh_of_new", "tanh", 0, "1 xfailed"),
        ("exp_of_old", "exp", 0, "1 passed"),  # where the entry does not exist it cannot be stale
        ("exp_of_new", "exp", 1, "mine: exp (numpy>=2) is declared to deviate (a bug)"),
    ],
)
def test_a_deviation_of_some_versions_is_one_where_these_are_installed(
    tmp_path: Path, backend: str, op: str, status: int, text: str
) -> None:
    (tmp_path / "mine.py").write_text(KNOWN_IN_VERSIONS_SOURCE, encoding="utf-8")
    options = (f"--backend=mine:{backend}", f"--op={op}", "--no-isolate", "--hypothesis-profile=default")
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    assert run.status == status
    assert text in run.output


@pytest.mark.rotating
def test_a_budget_and_a_shard_run(tmp_path: Path) -> None:
    options = ("--backend=numpy", "--op=tanh", "--op=exp", "--matrix=m.json", "--shard=1/2", "--budget=3s")
    run = run_properties(tmp_path, *options, properties=copy_one_property(tmp_path))
    assert run.status == 0
    (entry,) = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["entries"]
    assert entry["tally"]["judged"] > 100  # quick alone makes 18


def make_entries(backends: list[str], ops: int = 3) -> list[PropertyResult]:
    return [
        PropertyResult(
            f"test_{name}", f"op{i}", b, "failed" if i == 2 else "passed", Tally(12_345, 12_000, 0, 0.5)
        )
        for b in backends
        for i in range(ops)
        for name in ("every_gradient_agrees", "spec_agrees_with_numerical_differentiation")
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_tables_fit_a_hundred_columns(count: int) -> None:
    lines = [line.plain for line in format_tables(make_entries([f"backend{i}" for i in range(count)]), 100)]
    assert max(map(len, lines)) <= 100
    assert all(any(f"backend{i}" in line for line in lines) for i in range(count))
    assert lines[2].startswith("op2")  # what failed comes first
    assert any(line.startswith("every gradient agrees") for line in lines)


def test_tables_of_nasty_names_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=100, force_terminal=False)
    report = RunResults(make_entries(["[red]\x1b[31mevil\n"]), [])
    show_matrix(report, console, {"[b]gone": "why\x1b\nnot"}, {"[red]evil": ["op\x00"]}, {})
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]" in out


def test_of_one_cause_an_op_is_shown_before_a_longer_or_shorter_program() -> None:
    def fail(target: str, lines: int) -> FailureRecord:
        text = f"{target} fails" + "\n  x" * lines
        return FailureRecord(f"{target} fails", text, "f.py", ("same",), "value agrees", target, "raises")

    report = RunResults([], [fail("programs", 1), fail("layer_norm", 5)])
    assert [[f.target_name for f in group] for group in report.group_failures()] == [
        ["layer_norm", "programs"]
    ]


def test_failures_of_one_cause_are_one(capsys: pytest.CaptureFixture[str]) -> None:
    failures = [
        FailureRecord(
            f"op{i} fails", f"op{i} fails" + "\n  x" * i, f"f{i}.py", ("same",), "value agrees", f"op{i}"
        )
        for i in (3, 1, 2)
    ]
    report = RunResults([], failures)
    assert [[f.target_name for f in group] for group in report.group_failures()] == [["op1", "op2", "op3"]]
    show_failures(report, Console(width=100))
    out = capsys.readouterr().out
    assert "also in: op2, op3" in out
    assert out.count("reproduce: ") == 1
