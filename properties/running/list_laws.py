"""The laws in words: what each asks and does not see, and what its properties alone catch.

All of it is read from the docstrings of the laws and of the properties; nothing is imported or written twice.
"""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradspec.properties

FOLDER = Path(str(gradspec.properties.__file__)).parent
BLINDNESS = "Does not see: "
OWN_FAULT = "Its own fault: "
WIDTH = 100
INDENT = " " * 17


@dataclass(frozen=True)
class LawInWords:
    """A law, as its docstrings say it.

    Attributes:
        question: What it asks.
        blindness: What it does not see.
        own_faults: By the sentence of each of its properties, as `known` and reports write it, the fault
            that this property alone catches.
    """

    question: str
    blindness: str
    own_faults: dict[str, str]


def read_laws() -> list[LawInWords]:
    """Return all laws, by the name of their file."""
    return [
        _read_law(FOLDER / "laws" / path.name.removeprefix("test_"), path)
        for path in sorted(FOLDER.glob("test_*.py"))
    ]


def read_property_sentences(path: Path) -> list[str]:
    """Return the sentences of the properties in a file: the names of its tests, in words."""
    return [_to_sentence(test) for test in _iterate_tests(_parse(path))]


def format_laws() -> str:
    """Return all laws as people read them in a terminal."""
    return "\n\n".join("\n".join(_format_law(law)) for law in read_laws())


def _format_law(law: LawInWords) -> Iterator[str]:
    yield law.question
    for sentence, fault in law.own_faults.items():
        yield from _format_row("law", sentence)
        yield from _format_row("alone catches", fault)
    yield from _format_row("does not see", law.blindness)


def _format_row(title: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"  {title:15}", subsequent_indent=INDENT)


def _read_law(law_file: Path, test_file: Path) -> LawInWords:
    law = ast.get_docstring(_parse(law_file)) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in law.split("\n\n")]
    blindness = next((p.removeprefix(BLINDNESS) for p in paragraphs if p.startswith(BLINDNESS)), "")
    return LawInWords(
        question=law.split("\n")[0],
        blindness=blindness.rstrip("."),
        own_faults={
            _to_sentence(test): " ".join((ast.get_docstring(test) or "").split())
            .removeprefix(OWN_FAULT)
            .rstrip(".")
            for test in _iterate_tests(_parse(test_file))
        },
    )


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _iterate_tests(module: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node


def _to_sentence(test: ast.FunctionDef) -> str:
    return test.name.removeprefix("test_").replace("_", " ")
