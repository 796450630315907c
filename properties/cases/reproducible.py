"""Reproducible cases: what every kind of case can do, so that its failure can be shown, rerun and saved."""

from typing import Any, Protocol


class ReproducibleCase(Protocol):
    """What a law can be judged on: it can be written for people, for Python and for tools."""

    @property
    def target_name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    def as_python(self) -> str: ...
    def as_lines(self) -> list[str]: ...
    def as_json(self) -> dict[str, Any]: ...


class ReprCase:
    """A base of dataclasses of plain values: their repr is an expression, which makes them reproducible."""

    target_name = "programs"

    def as_python(self) -> str:
        return repr(self)

    def as_lines(self) -> list[str]:
        return [repr(self)]

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))
