"""Does it matter how inputs and cotangents lie in memory?"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradspec.properties.case import Case
from gradspec.properties.generating.layouts import LAYOUTS
from gradspec.properties.laws.layouts import layout_makes_no_difference
from gradspec.properties.running.subject import Subject
from gradspec.reference.tape import Array


@st.composite
def laid_out(draw, case: Case) -> Case:  # type: ignore[no-untyped-def]
    """The case in drawn layouts; where they are "expanded", with elements that are equal along an axis."""
    layouts = tuple(draw(st.sampled_from(list(LAYOUTS))) for _ in (*case.inputs, case.cotangent))
    inputs = [
        repeated(x) if layout == "expanded" and not case.op.kinks and x.dtype.kind not in "biu" else x
        for x, layout in zip(case.inputs, layouts, strict=False)
    ]
    cotangent = repeated(case.cotangent) if layouts[-1] == "expanded" else case.cotangent
    return replace(case, inputs=tuple(inputs), cotangent=cotangent, layouts=layouts)


def repeated(x: Array) -> Array:
    """X with its first elements along the longest axis in place of the others."""
    if x.size < 2:
        return x
    axis = int(np.argmax(x.shape))
    return np.array(np.broadcast_to(x.take([0], axis), x.shape))


@st.composite
def laid_out_cases(draw, subject: Subject) -> list[Case]:  # type: ignore[no-untyped-def]
    """Several cases of one call, each in layouts of its own."""
    return [draw(laid_out(case)) for case in draw(subject.cases(smooth=True, fills=3))]


@pytest.mark.property(when=lambda s: s.op.differentiable)
@given(data=st.data())
def test_layout_makes_no_difference(subject: Subject, data: st.DataObject) -> None:
    for case in data.draw(laid_out_cases(subject)):
        subject.obeys(layout_makes_no_difference, case, smooth=True)
