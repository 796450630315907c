"""How long a process has worked or waited: not the time for which it, or the whole machine, stood still."""

import time
from pathlib import Path

_TICKS_PER_SECOND = 100  # of the processor times in /proc, on every platform that Linux calls its own


class ProcessClock:
    """Adds up the seconds that count against a process: its own processor time, or what it sleeps.

    A process that computes is charged the time it had a processor for, at most; on a machine that is too busy
    for it, that is little. One that sleeps or waits is charged the time that passes, one that is stopped
    (SIGSTOP) nothing. Time that passed without anyone looking, when the process that looks was stopped
    itself, is not charged either.

    Where there is no /proc, the time that passes is charged, and only the last rule holds.

    Args:
        pid: The process.
        step: The seconds between one look and the next; more than two of them are never charged at once.
    """

    def __init__(self, pid: int, step: float) -> None:
        self.pid, self.step = pid, step
        self.seconds = 0.0
        self._last_look = time.monotonic()
        self._processor_seconds: float | None = None

    def restart(self) -> None:
        self.seconds = 0.0
        self._last_look = time.monotonic()

    def look(self) -> None:
        """Charge what has passed since the last look."""
        now = time.monotonic()
        passed = min(now - self._last_look, 2 * self.step)
        state, processor_seconds = read_process_state(self.pid)
        if state in ("T", "t"):  # stopped, or traced
            passed = 0.0
        elif state == "R" and self._processor_seconds is not None and processor_seconds is not None:
            passed = min(passed, processor_seconds - self._processor_seconds)
        self.seconds += passed
        self._last_look, self._processor_seconds = now, processor_seconds


def read_process_state(pid: int) -> tuple[str, float | None]:
    """Return the state of a process, as /proc names it, and its processor seconds; "" and None without."""
    try:
        # What follows the name of the program, which stands in parentheses and may hold anything.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return fields[0], (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    except (OSError, IndexError, ValueError):
        return "", None
