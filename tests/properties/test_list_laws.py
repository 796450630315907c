"""--laws prints what the docstrings say: every law and property, what they ask, and what they do not see."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gradspec.properties.running import list_laws
from gradspec.properties.running.list_laws import format_laws, read_laws, read_property_sentences
from gradspec.properties.running.tally import to_sentence
from tests.faults.caught_by_one_property import FAULT_CAUGHT_ONLY_BY
from tests.faults.collected_properties import properties
from tests.helpers.pytest_runs import make_environment, run_properties


def test_every_property_is_listed_with_its_own_fault() -> None:
    listed = {sentence: fault for law in read_laws() for sentence, fault in law.own_faults.items()}
    assert listed == {to_sentence(name): fault.name for name, fault in FAULT_CAUGHT_ONLY_BY.items()}
    assert listed.keys() == {to_sentence(name) for name in properties()}


def test_every_law_is_listed_with_what_it_asks_and_does_not_see() -> None:
    for law in read_laws():
        assert law.question.endswith("?")
        assert len(law.blindness) > 20, law
        assert "\n" not in law.blindness
        # What is printed stands alone, without the rest of its docstring.
        assert not re.search(r"\b(list|table|laws?) (above|below)\b|\bsee (above|below)", law.blindness), law


def test_what_is_printed_is_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "laws").mkdir()
    (tmp_path / "laws" / "sound.py").write_text(
        '"""Is it sound?\n\nIt asks.\n\nDoes not see: noise, or\nsilence.\n\nNor this.\n"""\n', "utf-8"
    )
    (tmp_path / "test_sound.py").write_text(
        'def test_it_is_sound(x):\n    """Its own fault: it\n    hums."""\n\n\ndef help_it():\n    pass\n',
        "utf-8",
    )
    monkeypatch.setattr(list_laws, "FOLDER", tmp_path)
    assert format_laws().splitlines() == [
        "Is it sound?",
        "  law            it is sound",
        "  alone catches  it hums",
        "  does not see   noise, or silence",
    ]
    assert read_property_sentences(tmp_path / "test_sound.py") == ["it is sound"]


@pytest.mark.parametrize("options", [(), ("-n2",)])
def test_the_option_prints_the_laws_and_tries_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = run_properties(tmp_path, "--laws", *options)
    assert (run.status, run.output) == (0, f"{format_laws()}\n")


def test_the_command_prints_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gradspec", "laws"]
    run = subprocess.run(
        command, cwd=tmp_path, env=make_environment(), capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{format_laws()}\n", "")


def test_a_property_has_the_name_of_the_law_that_it_checks() -> None:
    checked: dict[str, set[str]] = {}
    for file in sorted(list_laws.FOLDER.glob("test_*.py")):
        for test in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                calls = [node for node in ast.walk(test) if isinstance(node, ast.Call)]
                checked[test.name] = {
                    call.args[0].id
                    for call in calls
                    if isinstance(call.func, ast.Attribute)
                    and call.func.attr.startswith("check_law")
                    and isinstance(call.args[0], ast.Name)
                }
    # Asked of the spec alone, of which nothing is known to be wrong.
    checked["test_spec_is_as_stable_as_its_function"] -= {"second_derivatives_are_as_stable_as_the_function"}
    assert checked == {test: {test.removeprefix("test_")} for test in checked}
