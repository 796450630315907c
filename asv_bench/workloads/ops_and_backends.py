"""What is benchmarked: which ops, on which backends, at which sizes. The same at every commit that asv visits.

asv knows a benchmark by its name and a parameter by its place in a list. Were the lists taken from the commit under
test, a commit with one op fewer would have its results filed under the wrong ones; so they are taken from the sources
beside this folder, and a commit that lacks an op shows n/a.
"""

import ast
import gc
import importlib
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from gradspec.backends import Backend, Unavailable, load, loading
from gradspec.reference import OPS, Op

ROOT = Path(__file__).parents[2]

BACKENDS = ("numpy", "torch", "torch:cuda", "cupy")
"""Every backend that gradspec has had or is to have; n/a where it does not run."""

SIZES = ("overhead", "cache", "memory")
"""8 elements: the cost of a call; 64 KiB: arithmetic on what is in the cache; 16 MiB: reading and writing memory."""


def list_declared_ops() -> tuple[str, ...]:
    """The names of all functions under `reference/ops` that are decorated with `@op(...)`, in order."""
    return tuple(
        sorted(
            node.name
            for file in (ROOT / "reference" / "ops").glob("*.py")
            for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef) and any(map(_is_op_decorator, node.decorator_list))
        )
    )


def _is_op_decorator(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "op"


def get_op(name: str) -> Op:
    """The op of the commit under test; n/a where it has none of this name."""
    if name not in OPS:
        raise SkipNotImplemented(f"the spec has no {name} at this commit")
    return OPS[name]


def get_backend(name: str) -> Backend:
    """The backend of the commit under test, on one thread; n/a where it cannot run."""
    backend = _load_backend(name)
    if not isinstance(backend, Backend):
        raise SkipNotImplemented(str(backend)) from backend
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    return backend


@cache
def _load_backend(name: str) -> Backend | Exception:
    """The backend, or why it cannot run."""
    try:
        return load(name)
    except (Unavailable, ValueError) as reason:
        return reason


def get_implementation(backend: Backend, op: Op) -> Callable[..., Any]:
    """The backend's implementation of the op; n/a where it offers none."""
    if op.name not in backend.ops:
        raise SkipNotImplemented(f"{backend.name} does not offer {op.name}")
    return backend.ops[op.name]


LAZILY_IMPORTED_MODULES = (
    "torch.fx.experimental.symbolic_shapes",  # by `torch.autograd.grad` when it is first called: half a second
    "gradspec.properties.laws.gradient",
    "gradspec.properties.laws.value",
)
"""Modules that are imported where they are needed, and by almost every benchmark."""


def preload() -> None:
    """Import the backends' libraries and what they import later on, for processes forked from this one not to have to.

    Only modules: to ask for a device here would start a driver that does not survive the fork, and so would a backward pass.
    """
    for reference in (*loading.BUILT_IN.values(), *LAZILY_IMPORTED_MODULES):
        with suppress(ImportError):
            importlib.import_module(reference.partition(":")[0])
    gc.freeze()  # what is there by now need not be gone through by each collection before a measurement


def make_benchmark_classes(module: str, base: type) -> dict[str, type]:
    """One class of benchmarks for each declared op, by its name: subclasses of `base` with the op's name as `op`."""
    return {
        name: type(name, (base,), {"op": name, "__module__": module, "__doc__": inspect.getdoc(base)})
        for name in list_declared_ops()
    }
