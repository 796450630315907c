"""What a backend says of its ops, `known` and `declines`: a mapping from places to reasons, checked."""

import re
from collections.abc import Mapping
from typing import Any

_OP_AND_DTYPES = r"[\w.]+(?::\w+)?(?:\[\w+(?:, *\w+)*\])?"
_PATTERNS = {
    "known": rf"{_OP_AND_DTYPES}(?: *\(.*)?(?:: .+)?",
    "declines": _OP_AND_DTYPES,
}
_EXAMPLES = {
    "known": "'exp', 'exp[bfloat16]', 'exp (torch<2.13)' or 'exp: value agrees'",
    "declines": "'matmul' or 'matmul[bfloat16, float16]'; neither laws nor versions, as in `known`",
}


def check_reasons(backend: str, name: str, reasons: Any) -> None:
    """Check that `known` or `declines` of a backend gives a reason for each place, and names places alone.

    Args:
        backend: The backend, as a message begins.
        name: "known" or "declines".
        reasons: What was given.

    Raises:
        TypeError: It is no mapping, or from or to something else than strings.
        ValueError: A reason is empty, or a key names no place.
    """
    if not isinstance(reasons, Mapping):
        raise TypeError(
            f"{backend}: `{name}` is a {type(reasons).__name__}, {reasons!r}; expected a mapping from ops to "
            "reasons, as in {'matmul': 'vectors are refused'}"
        )
    for where, why in reasons.items():
        if not isinstance(where, str):
            raise TypeError(f"{backend}: `{name}` has the key {where!r}; expected {_EXAMPLES[name]}")
        if not re.fullmatch(_PATTERNS[name], where):
            raise ValueError(f"{backend}: `{name}` names {where!r}; expected {_EXAMPLES[name]}")
        if not isinstance(why, str):
            raise TypeError(
                f"{backend}: `{name}` gives {why!r} as the reason for {where!r}; expected a string"
            )
        if not why.strip():
            raise ValueError(f"{backend}: `{name}` gives no reason for {where!r}; reports show it")
