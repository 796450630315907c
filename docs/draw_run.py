"""The drawing of docs/run.svg, the README's picture of a run, from a real run: `make picture`."""

import io
import os
import pty
import re
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

TERMINAL_COLUMNS = 100
OPS_SHOWN = ("getitem", "layer_norm", "relu", "softmax", "programs")  # one of each family
COMMAND = ["pytest", "properties/", *(part for op in OPS_SHOWN for part in ("--op", op))]


def run_in_terminal(command: list[str]) -> str:
    """Return what the command prints to a terminal of TERMINAL_COLUMNS columns."""
    chunks = []

    def read(terminal: int) -> bytes:
        chunks.append(os.read(terminal, 1 << 16))
        return chunks[-1]

    os.environ |= {"COLUMNS": str(TERMINAL_COLUMNS), "TERM": "xterm-256color"}
    pty.spawn([sys.executable, "-m", *command], read)
    return b"".join(chunks).decode().replace("\r", "")


def main() -> None:
    """Run the properties, draw the tables printed at the end, and only then replace the picture."""
    path = Path(__file__).with_name("run.svg")
    report = run_in_terminal(COMMAND)
    # Before the tables there are only the dots of progress.
    report = report[report.index("=", report.index("100%]")) :]
    console = Console(width=TERMINAL_COLUMNS, record=True, file=io.StringIO())
    console.print(f"$ {' '.join(COMMAND)}\n")
    console.print(Text.from_ansi(report.strip()))
    fontless = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    new = path.with_suffix(".new")
    new.write_text(console.export_svg(title="gradspec", code_format=fontless), encoding="utf-8")
    new.replace(path)


if __name__ == "__main__":
    main()
