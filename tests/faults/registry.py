"""All faults and all variants, by name."""

from collections.abc import Iterator
from functools import cache

from gradspec.reference import OPS
from tests.faults import (
    by_axis,
    by_broadcasting,
    by_cotangents,
    by_magnitude,
    by_memory,
    by_place,
    by_precision,
    by_value,
    historic,
    own_binary,
    own_layers,
    own_places,
    own_reductions,
    own_shapes,
    own_unary,
    right_formulas,
    right_layouts,
    right_orders,
    right_subgradients,
)
from tests.faults.engines import make_engine_faults
from tests.faults.equivalent import EQUIVALENT
from tests.faults.fault import Fault
from tests.faults.general import make_general_faults
from tests.faults.own import OWN_FAULTS
from tests.faults.right import VARIANTS, Variant

FAULT_MODULES = (
    *(by_magnitude, by_place, by_broadcasting, by_axis, by_value, by_memory, by_precision, by_cotangents),
    *(own_unary, own_binary, own_reductions, own_shapes, own_layers, own_places, historic),
    *(right_subgradients, right_orders, right_formulas, right_layouts),
)
"""The modules that register faults or variants when they are imported."""


@cache
def faults() -> dict[str, Fault]:
    """All faults by name, without the equivalent ones."""
    return {repr(fault): fault for fault in _make_all_faults() if repr(fault) not in EQUIVALENT}


@cache
def right_variants() -> dict[str, Variant]:
    """All variants, right but different, by name."""
    return {repr(variant): variant for variant in VARIANTS}


def _make_all_faults() -> Iterator[Fault]:
    yield from make_engine_faults()
    for op in OPS:
        yield from make_general_faults(op)
        yield from (fault for fault in OWN_FAULTS if fault.op == op)
