"""Forms of ops in the place of the ops themselves, however a program calls them.

So a formula gets usual formulas from those of the ops that it is made of: it is run on each op's usual form.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

from gradspec.reference.derived import Formula
from gradspec.reference.op import OPS, Op


@contextmanager
def use_forms(forms: Mapping[str, Op]) -> Iterator[None]:
    """Let ops be these forms of themselves within the context.

    So they are for a formula, which calls them by NumPy's functions or by name, and for a rule that calls
    `np.tanh` when it runs on variables: higher derivatives are by the form throughout. Operators and methods
    of tensors stay the ops they are.

    Args:
        forms: forms of ops, such as `Op.usual_forms`, by the addresses of the ops.
    """
    before = {address: OPS[address].apply for address in forms}
    _set_apply({address: form.apply for address, form in forms.items()})
    try:
        yield
    finally:
        _set_apply(before)


def _set_apply(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Let what ops do on variables be these functions, by address.

    Whoever calls an op looks it up there at that moment, so that nobody pays for forms that are not in use.
    """
    for address, function in functions.items():
        object.__setattr__(OPS[address], "apply", function)  # an op is frozen for everyone else


def find_called_ops(call: Callable[[], Any], ops: Mapping[str, Op]) -> set[str]:
    """Return which ops a program calls.

    Args:
        call: runs the program on variables.
        ops: the ops to look out for, by address.
    """
    called: set[str] = set()

    def note(address: str, apply: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **keywords: Any) -> Any:
            called.add(address)
            return apply(*args, **keywords)

        return noting

    with use_forms({address: replace(op, apply=note(address, op.apply)) for address, op in ops.items()}):
        call()
    return called


def list_usual_forms(addresses: Collection[str]) -> list[dict[str, Op]]:
    """Return usual forms of these ops, by address, that replace them together.

    There are as many such choices as the op with the most usual forms has; an op with fewer keeps its last.
    """
    forms = {a: OPS[a].usual_forms for a in sorted(addresses) if a in OPS and OPS[a].usual_forms}
    count = max(map(len, forms.values()), default=0)
    return [{a: each[min(k, len(each) - 1)] for a, each in forms.items()} for k in range(count)]


def run_on_forms(formula: Formula, forms: Mapping[str, Op]) -> Formula:
    """Return the formula made of these forms of ops."""

    @wraps(formula)
    def usual(*args: Any, **keywords: Any) -> Any:
        with use_forms(forms):
            return formula(*args, **keywords)

    return usual
