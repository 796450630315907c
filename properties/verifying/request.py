"""A request to verify a function, and what is made of it: op, backend, and how a script finds both."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradspec.backends import Backend, load
from gradspec.backends.addresses import suggest_nearest
from gradspec.backends.backend import DTYPES
from gradspec.properties.judging.severity import DEFAULT_FAILING_SEVERITIES
from gradspec.properties.running.failure import BackendLabel
from gradspec.properties.verifying.against import declare, declare_formula
from gradspec.properties.verifying.kernels import (
    NoAddressError,
    find_address,
    find_backend,
    find_import_folder,
    name_function,
    require_callable,
)
from gradspec.properties.verifying.plain_functions import declare_function, is_plain_function
from gradspec.properties.verifying.shared_cases import OpUnderOneTest
from gradspec.reference import Op
from gradspec.reference.kink_distances import KinkDistanceFunction


@dataclass(frozen=True)
class Request:
    """The arguments of `verify`, as it describes them, and the module that calls it."""

    fn: Callable[..., Any]
    against: Any
    dtypes: Collection[Any] | None
    backend: str | Backend | None
    nests: bool
    shapes: str | None
    keywords: Mapping[str, Sequence[Any]] | None
    kinks: KinkDistanceFunction | None
    seed: int | None
    failures: str | Path
    caller: str


@dataclass(frozen=True)
class Subject:
    """What is verified.

    Attributes:
        target: The op under test.
        backend: The name of the backend that has its arrays.
        by_function: Whether it is judged by a plain function.
        no_script: Why a failure can have no script; "" if it can.
    """

    target: OpUnderOneTest
    backend: str
    by_function: bool
    no_script: str


@contextmanager
def prepare(request: Request) -> Iterator[Subject]:
    """Give the subject of a request; the op of a formula or function is declared within the block alone.

    Raises:
        TypeError: for arguments that do not go together.
        ValueError: for an op, a dtype or a backend that does not exist.
    """
    require_callable(request.fn)
    by_function = is_plain_function(request.against)
    with declare(request.against, request.shapes, request.keywords, request.kinks) as op:
        library = request.backend if request.backend is not None else find_backend(request.fn, op)
        loaded = load(library) if isinstance(library, str) else library
        if not isinstance(loaded, Backend):
            raise TypeError(f"verify: backend={library!r} is neither the name of a backend nor a Backend")
        name = name_function(request.fn)
        backend = loaded.with_ops({op: request.fn}, name=name, nests=request.nests and loaded.nests)
        expression, no_script = "", ""
        setup: tuple[str, ...] = ()
        try:
            expression, setup = _describe_for_script(request, op, library, name)
        except NoAddressError as error:
            no_script = str(error)
        target = OpUnderOneTest(
            name=op.address,
            op=op,
            backend=backend,
            source=loaded.name,
            dtypes=_list_dtypes(request.dtypes, loaded, by_function),
            failing_severities=frozenset(DEFAULT_FAILING_SEVERITIES),
            label=BackendLabel(name, loaded.device, loaded.name, expression, setup),
        )
        yield Subject(target, loaded.name, by_function, no_script)


def refuse_unknown(function: Callable[..., Any], unknown: Mapping[str, Any]) -> None:
    """Raise TypeError if keywords were given that the function does not take."""
    for name in unknown:
        names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        raise TypeError(f"{function.__name__} has no argument {name!r}; {suggest_nearest(name, names)}")


def _list_dtypes(dtypes: Collection[Any] | None, backend: Backend, by_function: bool) -> list[str]:
    """Return the dtypes to try, the widest first; not float64 where a plain function is the reference.

    Raises:
        TypeError: for one name in place of a collection.
        ValueError: for a dtype that the backend does not have, or none at all.
    """
    dtypes = _name_dtypes(dtypes)
    wanted = [d for d in backend.dtypes if d != "float64" or not by_function] if dtypes is None else dtypes
    if by_function and "float64" in wanted:
        raise ValueError(
            "verify: a function of torch cannot tell what is right in float64, since torch has no wider "
            "dtype, in which it would be exact; leave float64 out, or give a formula in NumPy"
        )
    for dtype in wanted:
        if dtype not in backend.dtypes:
            raise ValueError(
                f"verify: {dtype!r} is no dtype of {backend.name}; "
                + suggest_nearest(str(dtype), backend.dtypes)
            )
    if not wanted:
        raise ValueError(f"verify: dtypes={dtypes!r} has none; there are {', '.join(DTYPES)}")
    return [dtype for dtype in DTYPES if dtype in wanted]


def _name_dtypes(dtypes: Any) -> list[str] | None:
    """Return the names of dtypes, which may be a library's own, such as torch.float32."""
    if dtypes is None:
        return None
    if isinstance(dtypes, str) or not isinstance(dtypes, Collection):
        raise TypeError(f"verify: dtypes={dtypes!r} is one name, not a collection of names")
    return [str(getattr(dtype, "__name__", dtype)).rpartition(".")[2] for dtype in dtypes]


# How a script finds what is verified


def _describe_for_script(
    request: Request, op: Op, library: str | Backend, name: str
) -> tuple[str, tuple[str, ...]]:
    """Return the expression of the backend in a script, and the lines before it.

    Raises:
        NoAddressError: for what no script can import.
    """
    fn_module, fn_name = find_address(request.fn, request.caller)
    found = [(fn_module, fn_name)]
    if isinstance(library, str):
        source = library
    else:
        module, attribute = find_address(library, request.caller)
        found.append((module, attribute))
        source = f"{module}:{attribute}"
    declaration = []
    if op is not request.against and not isinstance(request.against, str):
        formula = find_address(request.against, request.caller)
        make_op = declare_function if is_plain_function(request.against) else declare_formula
        found.append(formula)
        arguments = [formula[1], repr(request.shapes)]
        if request.keywords is not None:
            arguments.append(f"keywords={ {k: [*values] for k, values in request.keywords.items()}!r}")
        if request.kinks is not None:
            kinks = find_address(request.kinks, request.caller)
            found.append(kinks)
            arguments.append(f"kinks={kinks[1]}")
        declaration = [
            f"from {make_op.__module__} import {make_op.__name__}",
            f"{make_op.__name__}({', '.join(arguments)})",
        ]
    folders = dict.fromkeys(filter(None, (find_import_folder(module) for module, _ in found)))
    imported = dict.fromkeys((module, attribute.split(".")[0]) for module, attribute in found)
    setup = (
        *([f"import sys; sys.path[:0] = {[*folders]!r}"] if folders else []),
        *(f"from {module} import {first}" for module, first in imported),
        *declaration,
    )
    return f"load({source!r}).with_ops({{{op.address!r}: {fn_name}}}, name={name!r})", setup
