"""The backends of a run: each loaded where it is tried, and described to this process.

The built-in ones are loaded here. Any other is loaded in a process of its own, unless `--no-isolate` is
given: importing it may end the process, hang, or give warnings that the filters of this one turn into errors.
What comes of it here is a `Backend` that has the names of its ops, and none that can be called.
"""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import pytest

from gradspec.backends import Backend, Unavailable, load
from gradspec.backends.addresses import is_import_path, suggest_nearest
from gradspec.backends.loading import BUILT_IN, list_import_paths
from gradspec.properties.judging.error_descriptions import describe_exception, make_printable
from gradspec.properties.judging.process_server import Here, LoadFailure
from gradspec.properties.running import options
from gradspec.properties.running.isolation import OwnProcessPlace
from gradspec.properties.running.op_selection import SPEC
from gradspec.properties.running.places import Place, ThisProcess
from gradspec.properties.running.targets import BackendUnderTest

EXPORT_KEY = "gradspec_backends"  # of what a process of pytest-xdist is told


@dataclass(frozen=True)
class BackendDescription:
    """What a backend says of itself, in plain values."""

    name: str
    ops: tuple[str, ...]
    dtypes: tuple[str, ...]
    known: dict[str, str]
    declines: dict[str, str] | None
    device: str
    nests: bool

    def restore(self) -> Backend:
        """Return a backend that says the same, and whose functions are elsewhere.

        The modules that declare its ops, if they are not the spec's, are imported here, too.

        Raises:
            ValueError: One of them cannot be found here.
        """
        return Backend(
            self.name,
            dict.fromkeys(self.ops, _raise_elsewhere),
            vjp=_raise_elsewhere,
            from_numpy=_raise_elsewhere,
            to_numpy=_raise_elsewhere,
            dtypes=frozenset(self.dtypes),
            known=self.known,
            declines=self.declines,
            device=self.device,
            nests=self.nests,
        )


@dataclass(frozen=True)
class Unloadable:
    """Why a backend cannot be loaded, as an object that can be sent."""

    reason: str

    def restore(self) -> Unavailable:
        return Unavailable(self.reason)


def describe_backend(backend: Backend, _: Here | None = None) -> BackendDescription:
    """Return what a backend says of itself: a request to the process that has loaded it."""
    return BackendDescription(
        str(backend.name),
        tuple(map(str, backend.ops)),
        tuple(map(str, backend.dtypes)),
        _list_texts(backend.known),
        None if backend.declines is None else _list_texts(backend.declines),
        str(backend.device),
        bool(backend.nests),
    )


def _list_texts(reasons: Mapping[str, str]) -> dict[str, str]:
    return {str(where): str(why) for where, why in reasons.items()}


def _raise_elsewhere(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("the backend is loaded in a process of its own, and cannot be called in this one")


class BackendsOfRun:
    """The backends that the command line selects, and the places where they are tried."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._names: list[str] = config.getoption("backend") or []
        self._isolate: bool | None = config.getoption("isolate")
        self._own_processes: dict[str, OwnProcessPlace] = {}
        self._this_process = ThisProcess()
        self._complaints: dict[str, str] = {}

    @cached_property
    def by_source(self) -> dict[str, Backend | Unavailable]:
        """The backends that `--backend` names, or else all, with the reason for each that cannot run here.

        Raises:
            pytest.UsageError: The option names one that does not exist, or none that can be loaded.
        """
        exported = pickle.loads(getattr(self._config, "workerinput", {}).get(EXPORT_KEY, pickle.dumps({})))
        names = self._names or list_import_paths()
        loaded = {name: exported[name].restore() if name in exported else self._load(name) for name in names}
        if self._names and all(isinstance(b, Unavailable) for b in loaded.values()):
            raise pytest.UsageError("\n".join(self._complaints.values()))
        return loaded

    @property
    def failed_names(self) -> list[str]:
        """The names after `--backend` of those that cannot be loaded."""
        return [name for name in self._names if isinstance(self.by_source[name], Unavailable)]

    def export(self) -> bytes:
        """Return what the processes of pytest-xdist need not load again; what has loaded it here ends."""
        self.stop()
        exported = {
            name: Unloadable(str(b)) if isinstance(b, Unavailable) else describe_backend(b)
            for name, b in (self.by_source.items() if self._names else ())
            if isinstance(b, Unavailable) or self._is_isolated(name)
        }
        return pickle.dumps(exported)

    def find_place(self, target: BackendUnderTest) -> Place:
        """Return where this target is tried."""
        is_spec = target.backend.name == SPEC
        if self._is_isolated(target.source) or (self._isolate and not is_spec):
            return self._get_own_process(target.source)
        return self._this_process

    def stop(self) -> None:
        for place in self._own_processes.values():
            place.stop()

    def _is_isolated(self, source: str) -> bool:
        """Return whether a backend is not even loaded in this process."""
        return self._isolate is not False and source not in BUILT_IN and _names_a_module(source)

    def _get_own_process(self, source: str) -> OwnProcessPlace:
        if source not in self._own_processes:
            self._own_processes[source] = OwnProcessPlace(source, options.get_time_limit(self._config))
        return self._own_processes[source]

    @cached_property
    def _laws(self) -> list[str]:
        """The laws that `known` may name."""
        return options.list_laws(self._config)

    def _load(self, name: str) -> Backend | Unavailable:
        """Load a backend, and check that every law exists that it declares to break."""
        loaded = self._load_in_own_process(name) if self._is_isolated(name) else self._load_here(name)
        if isinstance(loaded, LoadFailure):
            return self._explain(name, loaded)
        for known in loaded.deviations:
            if known.law and known.law not in self._laws:
                nearest = suggest_nearest(known.law, set(self._laws))
                what = f"`known` names law {known.law!r}, which does not exist; {nearest}"
                return self._explain(name, LoadFailure(f"backend {loaded.name!r}: {what}", is_refusal=True))
        return loaded

    def _load_here(self, name: str) -> Backend | LoadFailure:
        try:
            if name in BUILT_IN:
                return load(name)
            with warnings.catch_warnings(action="ignore"):
                return load(name)
        except (Unavailable, ValueError, TypeError) as error:
            if not _names_a_module(name):
                message = f"--backend: {' '.join(str(error).split())}"
                raise pytest.UsageError(make_printable(message)) from error
            return LoadFailure(str(error), is_refusal=True)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # raised by the backend's own module
            return LoadFailure(describe_exception(error))

    def _load_in_own_process(self, name: str) -> Backend | LoadFailure:
        place = self._get_own_process(name)
        answer = place.load() or place.ask(describe_backend)
        if isinstance(answer, BackendDescription):
            try:
                return answer.restore()
            except ValueError as error:  # one of its ops can be found there, and not here
                answer = LoadFailure(str(error), is_refusal=True)
        place.stop()
        if isinstance(answer, LoadFailure):
            return answer
        return LoadFailure(f"{answer.reason} when it was loaded")

    def _explain(self, name: str, failure: LoadFailure) -> Unavailable:
        """Return the reason in one line, and note it as it reads where the option is at fault."""
        lines = failure.text.split("\n")
        text = " ".join(" ".join(dict.fromkeys((lines[0], lines[-1]))).split())  # of the frames the last
        complaint = f"--backend: {text}" if failure.is_refusal else f"--backend {name} {text}"
        self._complaints[name] = make_printable(complaint)
        reason = text.removeprefix(f"{name}: ").removeprefix(f"no backend {name!r}: ")
        return Unavailable(make_printable(f"{name}: {reason}"))


def _names_a_module(name: str) -> bool:
    """Return whether this is the name of a backend, as far as can be told before anything is imported."""
    return name in list_import_paths() or is_import_path(name)
