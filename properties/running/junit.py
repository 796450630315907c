"""The file that --junitxml asks pytest for: one that cannot be written costs nothing but itself.

By itself pytest would raise an exception when the run is over, in place of the report.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gradspec.properties.running.files import describe_unwritten


def tell_unwritten_junit(config: pytest.Config, tell: Callable[[str], None]) -> None:
    """See to it that a line is told, and no exception raised, if the file cannot be written.

    Args:
        config: That of a run whose plugins have been configured.
        tell: What is called with the line.
    """
    for impl in _find_implementations(config.hook.pytest_sessionfinish):
        impl.function = _make_writer(config, impl, tell)


def _find_implementations(hook: Any) -> Iterator[Any]:
    for impl in hook.get_hookimpls():
        if type(impl.plugin).__module__ == "_pytest.junitxml":
            yield impl


def _make_writer(config: pytest.Config, impl: Any, tell: Callable[[str], None]) -> Callable[..., None]:
    write, file = impl.function, Path(impl.plugin.logfile)

    def write_or_tell(*arguments: Any) -> None:
        try:
            write(*arguments)
        except OSError as error:
            tell(describe_unwritten(f"--junitxml {config.getoption('xmlpath')}", error))
            for summary in _find_implementations(config.hook.pytest_terminal_summary):
                summary.function = lambda *_: None  # it says that the file has been written
            if file.is_file():  # half of it
                with suppress(OSError):
                    file.unlink()

    return write_or_tell
