"""Which ops are benchmarked, on which backends, at which sizes: the same at every commit that asv visits.

asv knows a benchmark by its name and a parameter by its place in a list. If the lists came from the commit
under test, the results of a commit with one op fewer would be filed under the wrong ops. So they come from
the sources beside this folder, and a commit that lacks an op shows n/a.
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

from asv_bench.measuring.any_commit import pick_first_value
from gradspec.backends import Backend, Unavailable, load, loading
from gradspec.reference import OPS, Op

ROOT = Path(__file__).parents[2]

BACKENDS = ("numpy", "torch", "torch:cuda", "cupy")
"""Every backend that gradspec has had or is to have; n/a where it does not run."""


def list_declared_ops() -> tuple[str, ...]:
    """Return the names of all functions under `reference/ops` that are decorated with `@op(...)`, sorted."""
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
    """Return the op of the commit under test, of several values with the first; n/a where there is none."""
    if name not in OPS:
        raise SkipNotImplemented(f"the spec has no {name} at this commit")
    return pick_first_value(OPS[name])


def get_backend(name: str) -> Backend:
    """Return the backend of the commit under test, on one thread; n/a where it cannot run."""
    backend = _load_backend(name)
    if not isinstance(backend, Backend):
        raise SkipNotImplemented(str(backend)) from backend
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    return backend


@cache
def _load_backend(name: str) -> Backend | Exception:
    """Return the backend, or the reason why it cannot run."""
    try:
        return load(name)
    except (Unavailable, ValueError) as reason:
        return reason


def get_implementation(backend: Backend, op: Op) -> Callable[..., Any]:
    """Return the backend's implementation of the op; n/a where it offers none."""
    if op.name not in backend.ops:
        raise SkipNotImplemented(f"{backend.name} does not offer {op.name}")
    return backend.ops[op.name]


LAZILY_IMPORTED_MODULES = (
    # `torch.autograd.grad` imports it in its first call, which then takes half a second longer.
    "torch.fx.experimental.symbolic_shapes",
    "gradspec.properties.laws.gradient",
    "gradspec.properties.laws.value",
)
"""Modules that are imported where they are needed, and by almost every benchmark."""


def preload() -> None:
    """Import the backends' libraries and what they import later, so that forked processes need not.

    It only imports: asking for a device here, or a backward pass, would start a driver that does not survive
    the fork.
    """
    for name in (*loading.BUILT_IN.values(), *LAZILY_IMPORTED_MODULES):
        with suppress(ImportError):
            importlib.import_module(name.partition(":")[0])
    # The collection before each measurement then skips what exists by now.
    gc.freeze()


def make_benchmark_classes(module: str, base: type) -> dict[str, type]:
    """Return a class of benchmarks for each declared op, by name: a subclass of `base` with that `op`."""
    return {
        name: type(name, (base,), {"op": name, "__module__": module, "__doc__": inspect.getdoc(base)})
        for name in list_declared_ops()
    }
