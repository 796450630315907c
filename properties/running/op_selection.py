"""Which ops a run tries: of each backend those that `--op` names, and one's own formulas before any kernel.

An op has an address (see `gradspec.backends.addresses`), and `--op` takes that or the name alone. The name
means what the backend offers under it: the spec's op or, where it has not got that, one of its own.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches

import pytest

from gradspec.backends import Backend
from gradspec.backends.addresses import find_op, is_import_path, suggest_nearest
from gradspec.backends.backend import DTYPES
from gradspec.properties.cases.program_ops import classify_ops, list_program_ops
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.reference import OPS

PROGRAMS = "programs"
"""What `--op` and reports call a backend as a whole, which is tried with programs and networks."""

SPEC = "spec"
"""The name of the backend that stands for the spec, where an op is tried in the spec itself."""

MAX_OPS_SHOWN = 12
"""Of the ops of a backend that has none of those that were asked for."""


def selects_programs(config: pytest.Config) -> bool:
    """Return whether programs and networks are tried: if `--op` names them, or nothing at all."""
    return PROGRAMS in _get_names(config) or not _get_names(config)


def list_selected_ops(config: pytest.Config, backend: Backend) -> list[str]:
    """Return the addresses of the ops of a backend that are tried, in the order of their declaration."""
    return _list_offered(backend.ops, _get_names(config) or backend.ops)


def list_missing_ops(config: pytest.Config, backend: Backend) -> list[str]:
    """Return what `--op` names and a backend does not offer; without it, the ops of the spec that are so."""
    names = _get_names(config) or list_spec_ops()
    return [name for name in names if name != PROGRAMS and not _list_offered(backend.ops, [name])]


def list_spec_ops() -> list[str]:
    """Return the names of the ops of the spec."""
    return [address for address, op in OPS.items() if not op.module]


def list_ops_on_trial(config: pytest.Config, backends: Iterable[Backend]) -> list[str]:
    """Return the addresses of the ops to try in the spec before any kernel is judged by them: one's own.

    Those are what is tried of the backends, and what `--op` names by its address.
    """
    selected = {address for backend in backends for address in list_selected_ops(config, backend)}
    return [
        address for address, op in OPS.items() if op.module and address in selected | {*_get_names(config)}
    ]


def check_ops(config: pytest.Config, list_backends: Callable[[], Iterable[Backend]]) -> None:
    """Check what `--op` names; a module that is part of an address is imported, unless it has been.

    Args:
        config: The configuration of the run.
        list_backends: Returns its backends, which may take a while.

    Raises:
        pytest.UsageError: There is no op of this name or address.
    """
    for name in _get_names(config):
        if name in (PROGRAMS, *list_spec_ops()):
            continue
        if is_import_path(name):
            try:
                find_op(name)
            except ValueError as error:
                raise pytest.UsageError(make_printable(f"--op: {error}")) from error
        else:
            offered = {address for backend in list_backends() for address in backend.ops}
            if not _list_offered(offered, [name]):
                own = [OPS[address].name for address in offered if address in OPS]
                hint = suggest_nearest(name, {*list_spec_ops(), *own, PROGRAMS})
                raise pytest.UsageError(make_printable(f"--op {name}: no such op; {hint}"))


def check_offers(config: pytest.Config, backends: Sequence[Backend]) -> None:
    """Check that one of the backends that `--backend` names offers what `--op` and `--dtype` select.

    An op that is named by its address is tried in the spec in any case, and so is the run.

    Args:
        config: The configuration of the run.
        backends: The backends that can run here.

    Raises:
        pytest.UsageError: None of them offers any of it, and there would be nothing to try.
    """
    names, dtypes = _get_names(config), config.getoption("dtype") or []
    whose = " and ".join(backend.name for backend in backends)
    offered_dtypes = [d for d in DTYPES if any(d in backend.dtypes for backend in backends)]
    if dtypes and not {*dtypes} & {*offered_dtypes}:
        what = f"--dtype {' '.join(dtypes)}: not offered by {whose}; there are {', '.join(offered_dtypes)}"
        raise pytest.UsageError(make_printable(what))
    offered = {address for backend in backends for address in backend.ops}
    has_programs = PROGRAMS in names and any(_has_programs(backend) for backend in backends)
    if not names or has_programs or any(map(is_import_path, names)) or _list_offered(offered, names):
        return
    known_names = [OPS[address].name for address in offered if address in OPS]
    hint = "it has no ops that programs are made of" if names == [PROGRAMS] else _suggest(names, known_names)
    raise pytest.UsageError(make_printable(f"--op {' '.join(names)}: not offered by {whose}; {hint}"))


def _has_programs(backend: Backend) -> bool:
    """Return whether a program or a chain can be made of the ops of a backend."""
    return "negative" in backend.ops or bool(classify_ops(list_program_ops(backend)).of_several)


def _suggest(names: Sequence[str], offered: Collection[str]) -> str:
    """Return which of the ops that are offered are most like these names, or the first of them all."""
    near = [match for name in names for match in get_close_matches(name, offered, cutoff=0.5)]
    shown = [*dict.fromkeys(near)] or sorted(offered)[:MAX_OPS_SHOWN]
    more = "" if near or len(offered) <= MAX_OPS_SHOWN else f" and {len(offered) - MAX_OPS_SHOWN} more"
    return f"it offers {', '.join(shown)}{more}" if shown else "it offers no ops"


def _get_names(config: pytest.Config) -> list[str]:
    names: list[str] = config.getoption("op") or []
    return names


def _list_offered(offered: Collection[str], names: Iterable[str]) -> list[str]:
    """Return the addresses among those offered that names or addresses mean."""
    meant: set[str] = set()
    for name in names:
        alike = (address for address in offered if address.rpartition(":")[2] == name)
        meant.update([name] if name in offered else alike)
    return [address for address in OPS if address in meant]
