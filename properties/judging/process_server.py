"""What runs in a process of a backend's own: it loads the backend, then does what it is asked for.

A request is a function of the backend and of what judges a case `Here`. Before every case this says which it
is, so that the process that asked knows the case which another one hung or died on. That process is in
`own_process`.
"""

import copyreg
import ctypes
import importlib.util
import os
import pickle
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from gradspec.backends import Backend, Unavailable, load
from gradspec.backends.addresses import find_op
from gradspec.properties.judging.attempt import Law, judge_case
from gradspec.properties.judging.error_descriptions import describe_exception, get_message_line
from gradspec.properties.judging.judgement import Judgement
from gradspec.reference import Op

CHECK, FOUND, FORK, ANSWER = b"c", b"v", b"f", b"a"
"""What a message is, by its first byte; pickled objects follow."""

CONNECTION_LOST_STATUS = 113
"""The exit status of a process that cannot send any more."""

FORK_GRACE_SECONDS = 0.5
"""After a call that forked: how long the child has to come back from it too, and to be noticed."""

_PR_SET_PDEATHSIG = 1

TestModules = Sequence[tuple[Path, str]]
"""Files to import before a request is read, each under a name that is on no path: those of tests."""


class Here(Protocol):
    """What a request may do besides calling the backend."""

    def judge(self, law: Law, backend: Backend, case: Any, note: Any = None) -> Judgement:
        """Announce a case, with a note that comes back if it is the last one, and judge it."""
        ...

    def keep(self, found: Any) -> None:
        """Send what must not be lost with this process."""
        ...


Request = Callable[[Backend, Here], Any]


@dataclass(frozen=True)
class CrashOrTimeout(Judgement):
    """A disagreement that only a process of its own survives to tell: a crash, a time limit, an interrupt."""

    time_limit: float = 60.0


@dataclass(frozen=True)
class LoadFailure:
    """Why a backend could not be loaded.

    Attributes:
        text: What was raised, or what is missing.
        is_refusal: Whether the text is a message of `load`'s own and names the backend.
    """

    text: str
    is_refusal: bool = False


@dataclass(frozen=True)
class RequestFailure:
    """Something went wrong with a request before the backend had a part in it."""

    reason: str


@dataclass(frozen=True)
class JudgeCase:
    """The request to judge one case, with the global random generators in a state of its own."""

    law: Law
    case: Any
    seed: int = 0

    def __call__(self, backend: Backend, here: Here) -> Judgement:
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002 - it is the backend that may use it
        return here.judge(self.law, backend, self.case)


load_once = cache(load)


def _reduce_op(op: Op) -> Any:
    return find_op, (op.address,)


copyreg.pickle(Op, _reduce_op)  # by address: the functions of a rule cannot be pickled


def serve(descriptor: int, parent: int) -> None:
    """Load the backend that the first message names, then answer requests until the connection is closed.

    Args:
        descriptor: The file descriptor of the connection to the process that asks.
        parent: The id of that process. On Linux this process ends with the thread that started it there.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    _end_with_parent(parent)
    server = _Server(Connection(descriptor))
    try:
        backend = server.load(server.receive())
        while backend:
            server.answer(backend, *server.receive())
    except BaseException:  # nothing of gradspec's own is to be read among the last words of the backend
        os._exit(CONNECTION_LOST_STATUS)


class _Server:
    """The connection to the process that asks, and what notices that this one has forked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pid = os.getpid()
        self._has_forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=self._note_fork)

    def _note_fork(self) -> None:
        self._has_forked = True

    def receive(self) -> Any:
        return self._connection.recv()

    def load(self, source: str) -> Backend | None:
        backend = failure = None
        try:
            with warnings.catch_warnings(action="ignore"):
                backend = load_once(source)
        except (Unavailable, ValueError, TypeError) as error:
            failure = LoadFailure(get_message_line(error), is_refusal=True)
        except BaseException as error:
            failure = LoadFailure(describe_exception(error))
        self._end_if_forked(None)
        self._send(ANSWER, failure)
        return backend

    def answer(self, backend: Backend, modules: TestModules, request: bytes) -> None:
        try:
            for path, name in modules:
                import_test_module(path, name)
            answer = pickle.loads(request)(backend, self)
        except Exception as error:
            answer = RequestFailure(f"{type(error).__name__}: {get_message_line(error)}")
        self._send(ANSWER, answer)

    def judge(self, law: Law, backend: Backend, case: Any, note: Any = None) -> Judgement:
        self._has_forked = False
        self._send(CHECK, (law, case, note))
        try:
            judgement = judge_case(law, backend, case)
        except KeyboardInterrupt as error:  # the backend's own: Ctrl-C does not reach this process
            judgement = CrashOrTimeout("disagree", describe_exception(error))
        self._end_if_forked((law, case, note))
        return judgement

    def keep(self, found: Any) -> None:
        self._send(FOUND, found)

    def _send(self, kind: bytes, content: Any) -> None:
        try:
            self._connection.send_bytes(kind + pickle.dumps(content))
        except OSError:  # closed, by the backend or by the end of the process that asks
            os._exit(CONNECTION_LOST_STATUS)

    def _end_if_forked(self, check: Any) -> None:
        """End this process, and the one it was forked from, if it is a child that came back from a call."""
        if os.getpid() != self._pid:
            self._send(FORK, check)
            os.kill(self._pid, signal.SIGKILL)
            os._exit(0)
        if self._has_forked:
            time.sleep(FORK_GRACE_SECONDS)


def _end_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        _end()


def _end() -> NoReturn:
    os._exit(CONNECTION_LOST_STATUS)


def import_test_module(path: Path, name: str) -> None:
    """Import the module of a test under the name that it has in the process that asks."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
