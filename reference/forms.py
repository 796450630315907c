"""Forms of ops in the place of the ops themselves, however a program calls them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
