"""The console command: what it offers, what it says of a wrong command line, and how it ends."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from gradspec import __version__
from gradspec.command import COMMANDS, main
from gradspec.reference import OPS

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}


def _end(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_help_names_every_command_and_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end("--help") == 0
    printed = capsys.readouterr().out
    assert all(f"{name:10}{command.help}" in printed for name, command in COMMANDS.items())


def test_every_command_has_a_function() -> None:
    for command in COMMANDS.values():
        module, _, function = command.function.partition(":")
        assert callable(getattr(import_module(module), function))


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert _end("--version") == 0
    assert capsys.readouterr().out == f"gradspec {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["verfy"], "gradspec: no such command as 'verfy'; did you mean verify?"),
        (["zzz"], "gradspec: no such command as 'zzz'; did you mean verify or time or ops or laws?"),
        (["--backend", "torch"], "gradspec: unrecognized arguments: --backend"),
        (["laws", "--op"], "gradspec laws: unrecognized arguments: --op"),
        (["ops", "tanh"], "gradspec ops: unrecognized arguments: tanh"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _end(*arguments) == pytest.ExitCode.USAGE_ERROR
    assert capsys.readouterr() == ("", f"{line}\n")


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == pytest.ExitCode.USAGE_ERROR
    assert "verify the gradients" in capsys.readouterr().err


def test_the_help_of_verify_has_every_option_of_gradspec(
    capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    assert main(["verify", "--op", "tanh", "--help"]) == 0
    printed = capsys.readouterr().out
    group = next(g for g in pytestconfig._parser._groups if g.name == "gradspec")
    options = [name for option in group.options for name in option.names()]
    assert "--backend" in options
    assert [name for name in options if name not in printed] == []


@pytest.mark.parametrize(
    ("option", "status"),
    [("--laws", pytest.ExitCode.OK), ("--op=tahn", pytest.ExitCode.USAGE_ERROR)],
)
def test_the_status_of_verify_is_that_of_pytest(option: str, status: int) -> None:
    command = [sys.executable, "-m", "gradspec", "verify", "-p", "no:cacheprovider", option]
    run = subprocess.run(command, capture_output=True, check=False, env=ENVIRONMENT)
    assert run.returncode == status


def test_every_op_of_the_spec_is_listed_as_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("(")[0] for line in lines] == sorted(
        op.name for op in OPS.values() if not op.module
    )
    assert {"softmax(x, *, axis=-1)", "concat(xs, *, axis=0)", "reshape(x, *, shape)"} < {*lines}


@pytest.mark.parametrize("arguments", [["laws"], ["ops"], ["verify", "--op=exp", "--collect-only"]])
def test_whoever_closes_the_output_sees_no_traceback(arguments: list[str]) -> None:
    """As `| head -1` does, here before anything is written."""
    command = [sys.executable, "-m", "gradspec", *arguments]
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT
    )
    os.close(writer)
    assert (run.returncode, run.stderr) == (1, "")


def test_the_command_alone_imports_nothing_heavy() -> None:
    script = (
        "import sys, gradspec.command; print(*{'numpy', 'pytest', 'hypothesis'}.intersection(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert run.stdout.split() == []
