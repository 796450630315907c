"""The backend "numpy": the spec itself, its rules on its tape. It has none of the ops that others declare.

It does not offer the 16-bit floats: results in them are judged by the spec in float32, and in float16 the
spec itself would fall short of that.
"""

from typing import Any

import numpy as np

from gradspec.backends.backend import Backend
from gradspec.reference import OPS, vjp


def _identity(x: Any) -> Any:
    return x


backend = Backend(
    name="numpy",
    ops={name: op for name, op in OPS.items() if not op.module},
    vjp=vjp,
    from_numpy=_identity,
    to_numpy=np.asarray,
    declines={},  # it offers every call of every op
    nests=True,
)
