"""A process of a backend's own, which may hang, exit or crash: it is started anew, and the case is known.

Such a process is spawned, never forked: a library that has been used may hang for ever in a forked child. It
lives as long as the backend lets it, so that imports and compiled kernels are paid for once. What it prints
goes nowhere but into the description of a crash.
"""

import atexit
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any, Literal

from gradspec.backends import Unavailable
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.error_descriptions import describe_exit, make_printable
from gradspec.properties.judging.judgement import Judgement
from gradspec.properties.judging.lifeline import Lifeline
from gradspec.properties.judging.process_clock import ProcessClock
from gradspec.properties.judging.process_server import (
    ANSWER,
    CHECK,
    CONNECTION_LOST_STATUS,
    FOUND,
    READY,
    CrashOrTimeout,
    JudgeCase,
    LoadFailure,
    Request,
    RequestFailure,
    TestModules,
)

START_SECONDS = 60.0  # a new process has this long to be ready to import the backend
MAX_STEP_SECONDS = 0.5  # between one look at the process and the next
EXIT_SECONDS = 2.0  # after its connection is closed, for a process to end
LAST_WORDS_CHARACTERS = 300  # of what a process that died had printed
MAX_MESSAGE_BYTES = 2**28  # one that claims to be longer is none of ours

_PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path[:] = {path}
from gradspec.properties.judging.process_server import serve
serve({descriptor})
"""


LossKind = Literal["died", "late", "ended"]


@dataclass(frozen=True)
class Lost:
    """What is known of a process that gave no answer.

    Attributes:
        reason: What became of it, as the end of a sentence about it.
        kind: Whether it died, took too long for one check, or was ended since all its time was up.
        last_message: Its last check, pickled; None before the first.
        check_count: How many checks it had begun.
        kept_messages: What it had sent so that it is not lost, each pickled.
    """

    reason: str
    kind: LossKind
    last_message: bytes | None = None
    check_count: int = 0
    kept_messages: tuple[bytes, ...] = ()

    def read_check(self) -> tuple[Law, Any, Any] | None:
        """Return the law, the case and the note of its last check; None before the first."""
        check: tuple[Law, Any, Any] | None = _read(self.last_message) if self.last_message else None
        return check

    def read_kept(self) -> list[Any]:
        """Return what it had sent so that it is not lost, in this order."""
        return [found for found in map(_read, self.kept_messages) if found is not None]


def _read(message: bytes) -> Any:
    try:
        return pickle.loads(message)
    except Exception:  # whatever the backend wrote there
        return None


class OwnProcess:
    """A process that has loaded one backend and is asked about it; a new one is started when it is lost.

    Args:
        source: The name that the backend is loaded by.
        time_limit: The seconds that one check may take.
    """

    def __init__(self, source: str, time_limit: float) -> None:
        self.source, self.time_limit = source, time_limit
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection
        self._lifeline: Lifeline
        self._printed: _LastWords
        _all_processes.add(self)

    def load(self) -> LoadFailure | Lost | None:
        """Start the process and load the backend in it, unless that is done; return what went wrong."""
        if self._process is not None and self._process.poll() is None:
            return None
        self.stop()
        self._start()
        try:
            self._connection.send(self.source)
        except OSError:
            return Lost(self._describe_end(), "died")
        answer = self._await_answer(START_SECONDS, float("inf"))
        if answer is not None:
            self.stop()
        assert answer is None or isinstance(answer, LoadFailure | Lost)
        return answer

    def ask(self, request: Request, modules: TestModules = (), max_seconds: float = float("inf")) -> Any:
        """Return what the request returns in the process, a `Lost` if that is lost.

        Args:
            request: What to do there.
            modules: The modules of tests that the request refers to.
            max_seconds: How long it may take in all, starting the process not counted.

        Raises:
            Unavailable: The backend, which could be loaded before, cannot be loaded again.
        """
        failure = self.load()
        if isinstance(failure, LoadFailure):
            raise Unavailable(failure.text)
        if failure:
            return failure
        try:
            self._connection.send((modules, pickle.dumps(request)))
        except OSError:
            return Lost(self._describe_end(), "died")
        return self._await_answer(self.time_limit, time.monotonic() + max_seconds)

    def _await_answer(self, limit: float, end: float) -> Any:
        assert self._process is not None
        clock = ProcessClock(self._process.pid, min(MAX_STEP_SECONDS, self.time_limit / 4))
        last_check, check_count = None, 0
        kept: tuple[bytes, ...] = ()
        while True:
            try:
                while not self._connection.poll(min(clock.step, max(0.0, end - time.monotonic()))):
                    clock.look()
                    is_late = clock.seconds > limit
                    if is_late or time.monotonic() >= end:
                        self.stop()
                        reason = f"did not finish within {limit:g} s"
                        kind_of_loss: LossKind = "late" if is_late else "ended"
                        return Lost(reason, kind_of_loss, last_check, check_count, kept)
                message = self._connection.recv_bytes(MAX_MESSAGE_BYTES)
            except (EOFError, OSError):
                return Lost(self._describe_end(), "died", last_check, check_count, kept)
            kind, content = message[:1], message[1:]
            if kind == READY:
                limit = self.time_limit
                clock.restart()
                continue
            if kind == CHECK:
                last_check, check_count = content, check_count + 1
                clock.restart()
                continue
            if kind == FOUND:
                kept = *kept, content
                continue
            try:
                answer = pickle.loads(content)
            except Exception:
                kind, answer = b"", None
            if kind == ANSWER:
                return answer
            self.stop()
            reason = "wrote to the connection between its process and this one"
            return Lost(reason, "died", last_check, check_count, kept)

    def _start(self) -> None:
        here, there = socket.socketpair()
        with there:
            program = _PROGRAM.format(path=[str(p) for p in sys.path], descriptor=there.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[there.fileno()],
                process_group=0,  # its own, so that it ends with all that it starts
            )
        self._connection = Connection(here.detach())
        self._lifeline = Lifeline(self._process.pid)
        self._printed = _LastWords(self._process.stdout)

    def _describe_end(self) -> str:
        """End the process, and return how it had ended, or that it closed the connection."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout=EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            status = CONNECTION_LOST_STATUS
        self.stop()
        if status == CONNECTION_LOST_STATUS:
            return "closed the connection between its process and this one"
        return describe_exit(status) + self._printed.describe()

    def stop(self) -> None:
        """End the process and all that it started."""
        if self._process is None:
            return
        process, self._process = self._process, None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may have left its group
        process.wait()
        self._connection.close()
        self._lifeline.end()


class _LastWords:
    """The end of what a process prints; the rest is read and forgotten, so that it never has to wait."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream, self._end = stream, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            while chunk := os.read(self._stream.fileno(), 2**16):
                self._end = (self._end + chunk)[-LAST_WORDS_CHARACTERS:]

    def describe(self) -> str:
        """Return its last line, if there is one, as a line to append; the process has ended."""
        self._thread.join(EXIT_SECONDS)
        lines = self._end.decode(errors="replace").split("\n")
        last_line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"\n  its last words: {make_printable(last_line)}" if last_line else ""


def judge_case_in_own_process(law: Law, source: str, case: Any, seconds: float = 60.0) -> Judgement:
    """Judge a case in a process of its own; a `CrashOrTimeout` if that dies or takes more than `seconds`.

    Args:
        law: The law.
        source: The name to load the backend by.
        case: The case.
        seconds: The time limit.

    Raises:
        Unavailable: The backend cannot be loaded, or not in this time.
    """
    process = OwnProcess(source, seconds)
    try:
        answer = process.ask(JudgeCase(law, case))
    finally:
        process.stop()
    return judge_lost_check(answer, seconds) if isinstance(answer, Lost) else _require_judgement(answer)


def judge_lost_check(lost: Lost, seconds: float) -> CrashOrTimeout:
    """Return the judgement of a check that ended its process or took more than `seconds`.

    Raises:
        Unavailable: The process was lost before its first check.
    """
    if lost.last_message is None:
        raise Unavailable(f"{lost.reason} before its first check")
    return CrashOrTimeout("disagree", lost.reason, time_limit=seconds)


def _require_judgement(answer: Any) -> Judgement:
    if isinstance(answer, RequestFailure):
        raise RuntimeError(answer.reason)
    assert isinstance(answer, Judgement)
    return answer


_all_processes: "weakref.WeakSet[OwnProcess]" = weakref.WeakSet()


@atexit.register
def _stop_all_processes() -> None:
    for process in [*_all_processes]:
        process.stop()
