"""`parametrize`: one pytest item for each op and law, for whoever wants to see them all."""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

import pytest

from gradspec.backends import Backend
from gradspec.properties.running.profiles import PROFILES
from gradspec.properties.running.tally import to_sentence
from gradspec.properties.verifying.laws_of_one import ALL_LAWS, judge
from gradspec.properties.verifying.report import Report
from gradspec.properties.verifying.request import Request, prepare, refuse_unknown

ARGUMENT = "law"
"""The argument of the test that gets the law to ask."""


@dataclass(frozen=True)
class AskedLaw:
    """A law that is asked of a function when it is called."""

    request: Request
    property: str
    examples: int

    def __call__(self) -> Report:
        """Ask it; the exceptions are those of `verify`."""
        __tracebackhide__ = True
        return judge(self.request, ALL_LAWS.select(self.property), self.examples)

    def __repr__(self) -> str:
        return to_sentence(self.property)


def parametrize(
    functions: Mapping[Any, Callable[..., Any]],
    *,
    dtypes: Collection[Any] | None = None,
    backend: str | Backend | None = None,
    nests: bool = True,
    examples: int = PROFILES["default"],
    seed: int | None = None,
    failures: str | Path = "failures",
    **unknown: Never,
) -> pytest.MarkDecorator:
    """Return a decorator that runs a test once for each op and law; the test calls the law that it is given.

        @gradspec.parametrize({"silu": my_silu, rms_norm: MyRMSNorm.apply}, dtypes=["float32"])
        def test_kernels(law):
            law()

    Where no backend is named, each function is called a few times as the tests are collected.

    Args:
        functions: The functions, by the op that each must agree with, or its name.
        dtypes: as of `verify`, and so are the others.
        backend: The backend that has their arrays.
        nests: Whether their backward passes can be differentiated.
        examples: How many examples Hypothesis draws for each law.
        seed: What they are drawn from.
        failures: The folder that the scripts of failures are written to.
        **unknown: There are no other arguments.
    """
    refuse_unknown(parametrize, unknown)
    caller = str(sys._getframe(1).f_globals.get("__name__", ""))
    items = []
    for against, fn in functions.items():
        request = Request(fn, against, dtypes, backend, nests, None, None, None, seed, failures, caller)
        with prepare(request) as subject:
            for name in ALL_LAWS.restrict(subject.target).list_names():
                law = AskedLaw(request, name, examples)
                items.append(pytest.param(law, id=f"{subject.target.op.name}-{law!r}"))
    return pytest.mark.parametrize(ARGUMENT, items)
