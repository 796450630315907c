"""What every kind of case can do: be shown to people, written as Python, and saved for tools."""

from typing import Any, Protocol


class ReproducibleCase(Protocol):
    """What a law can be tried on: something that can be shown to people, to Python and to tools."""

    @property
    def target_name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    def as_python(self) -> str: ...
    def as_lines(self) -> list[str]: ...
    def as_json(self) -> dict[str, Any]: ...


class ReprCase:
    """Makes a dataclass of plain values reproducible: its repr is an expression."""

    target_name = "programs"

    def as_python(self) -> str:
        return repr(self)

    def as_lines(self) -> list[str]:
        return [repr(self)]

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))
