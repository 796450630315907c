"""The ops that any namespace of the Array API standard already provides.

The spec calls its ops as the standard does, so a namespace (NumPy, `array_api_compat.torch`,
`array_api_strict`, CuPy) is most of a backend already. Only what differs in the standard itself is
translated.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.reference import OPS
from gradspec.reference.axes import Axes, normalize_axes

# The ops of the spec that the standard has. A namespace may have others under the same name, but with other
# keywords.
STANDARD_OPS = frozenset(OPS) - {
    *("cross_entropy", "einsum", "gelu", "getitem", "index_add", "layer_norm", "linear", "log_softmax"),
    *("logsumexp", "pad", "relu", "sigmoid", "silu", "softmax", "softplus", "stop_gradient"),
}


def ops_from(namespace: Any) -> dict[str, Callable[..., Any]]:
    """Return every op of the spec that an Array API namespace has, by name.

    `getitem`, which the standard spells x[key], is always among them. `sort`, which returns values and
    indices, is made of `argsort`, `flip` and `take_along_axis`.

    Args:
        namespace: a module, or any other object with the standard's functions as attributes.
    """
    ops = {name: getattr(namespace, name) for name in sorted(STANDARD_OPS) if hasattr(namespace, name)}
    ops.pop("sort", None)  # of the standard, the values alone
    if all(hasattr(namespace, name) for name in ("argsort", "flip", "take_along_axis")):
        ops["sort"] = _make_sort(namespace)
    if "expand_dims" in ops:
        ops["expand_dims"] = _accept_several_axes(ops["expand_dims"])
    return {**ops, "getitem": _make_getitem(namespace)}


def _accept_several_axes(expand_dims: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `expand_dims` that also takes a tuple of axes; the standard's inserts one axis at a time.

    The axes are inserted from the first to the last, so that none moves one inserted before it.
    """

    def expand_dims_one_by_one(x: Any, *, axis: Axes) -> Any:
        count = 1 if isinstance(axis, int) else len(tuple(axis or ()))
        for a in sorted(normalize_axes(axis, x.ndim + count)):
            x = expand_dims(x, axis=a)
        return x

    return expand_dims_one_by_one


def _make_sort(namespace: Any) -> Callable[..., Any]:
    def sort(x: Any, *, axis: int = -1, descending: bool = False) -> Any:
        """Return the elements in a stable order, and their indices; descending, x is sorted from its end."""
        if descending:
            from_the_end = namespace.argsort(namespace.flip(x, axis=axis), axis=axis, stable=True)
            indices = x.shape[axis] - 1 - namespace.flip(from_the_end, axis=axis)
        else:
            indices = namespace.argsort(x, axis=axis, stable=True)
        return namespace.take_along_axis(x, indices, axis=axis), indices

    return sort


def _make_getitem(namespace: Any) -> Callable[..., Any]:
    def getitem(x: Any, *, key: Any) -> Any:
        """Return x[key], with the arrays in the key copied to arrays of the library on the device of x."""
        # NumPy's arrays have a device too, but an asarray modelled on NumPy's need not accept one.
        placement = {"device": x.device} if hasattr(x, "device") and not isinstance(x, np.ndarray) else {}

        def to_own_array(k: Any) -> Any:
            return namespace.asarray(k.copy(), **placement) if isinstance(k, np.ndarray | np.generic) else k

        return x[tuple(map(to_own_array, key)) if isinstance(key, tuple) else to_own_array(key)]

    return getitem
