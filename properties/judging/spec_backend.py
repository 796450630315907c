"""The spec as a backend, for laws about more than one op: by its stable formulas, and by usual ones."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from gradspec.backends import Backend, load
from gradspec.reference import OPS, Op
from gradspec.reference.forms import list_usual_forms, use_forms

SPEC_BACKEND = load("numpy")


def get_spec_backend() -> Backend:
    """Return the spec as a backend, with every op that is declared anywhere."""
    return _make_spec(tuple(OPS.items()))


@lru_cache(maxsize=1)
def _make_spec(ops: tuple[tuple[str, Op], ...]) -> Backend:
    return replace(SPEC_BACKEND, ops=dict(ops))


def list_usual_spec_backends(names: Collection[str]) -> list[Backend]:
    """Return the spec with usual formulas in place of the stable ones, for laws about more than one op.

    Args:
        names: The ops that get their usual formulas, and so do those that their formulas are made of. There
            are as many backends as the one with the most has; an op with fewer keeps its last.
    """
    parts = {part for name in names if name in OPS for part in OPS[name].parts}
    return [_make_spec_backend(forms) for forms in list_usual_forms({*names, *parts})]


def _make_spec_backend(forms: Mapping[str, Op]) -> Backend:
    """Return the spec with these forms of ops, in its derivatives too."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        with use_forms(forms):
            value, pullback = SPEC_BACKEND.vjp(fn, *inputs)

        def pull(g: Any) -> Any:
            with use_forms(forms):
                return pullback(g)

        return value, pull

    return replace(SPEC_BACKEND, ops={**OPS, **forms}, vjp=vjp)
