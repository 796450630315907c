"""The ops that any library with the Array API standard's names offers as it stands.

The spec calls its ops as the standard does, so a namespace (NumPy, `array_api_compat.torch`, `array_api_strict`, CuPy)
is most of a backend already. Only what the standard itself says otherwise is translated here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.reference import OPS
from gradspec.reference.axes import Axes, normalize_axes

# The ops of the spec that the standard has. Others may be in a namespace under the same name with other keywords.
STANDARD_OPS = frozenset(OPS) - {
    *("cross_entropy", "gelu", "getitem", "layer_norm", "linear", "log_softmax", "logsumexp"),
    *("relu", "sigmoid", "silu", "softmax", "softplus"),
}


def ops_from(namespace: Any) -> dict[str, Callable[..., Any]]:
    """Every op of the spec that an Array API namespace has, by name, with `getitem`, which the standard spells x[key].

    namespace: a module, or anything else with the standard's functions as attributes.
    """
    ops = {name: getattr(namespace, name) for name in sorted(STANDARD_OPS) if hasattr(namespace, name)}
    if "expand_dims" in ops:
        ops["expand_dims"] = _accept_several_axes(ops["expand_dims"])
    return {**ops, "getitem": _make_getitem(namespace)}


def _accept_several_axes(expand_dims: Callable[..., Any]) -> Callable[..., Any]:
    """The standard inserts one axis at a time; so the foremost first, for the others to keep their places."""

    def expand_dims_one_by_one(x: Any, *, axis: Axes) -> Any:
        new = 1 if isinstance(axis, int) else len(tuple(axis or ()))
        for a in sorted(normalize_axes(axis, x.ndim + new)):
            x = expand_dims(x, axis=a)
        return x

    return expand_dims_one_by_one


def _make_getitem(namespace: Any) -> Callable[..., Any]:
    def getitem(x: Any, *, key: Any) -> Any:
        """x[key], with copies of the arrays within the key, as arrays of the library on the device of x."""
        # NumPy's arrays name a device too, which an asarray made in the image of NumPy's need not take
        where = {"device": x.device} if hasattr(x, "device") and not isinstance(x, np.ndarray) else {}

        def to_own_array(k: Any) -> Any:
            return namespace.asarray(k.copy(), **where) if isinstance(k, np.ndarray | np.generic) else k

        return x[tuple(map(to_own_array, key)) if isinstance(key, tuple) else to_own_array(key)]

    return getitem
