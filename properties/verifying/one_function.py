"""`verify`: one function, judged by all laws that apply, in the process and the test of its author."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Never

from gradspec.backends import Backend
from gradspec.properties.verifying.laws_of_one import ALL_LAWS, N_EXAMPLES, judge
from gradspec.properties.verifying.report import Report
from gradspec.properties.verifying.request import Request, refuse_unknown
from gradspec.reference.kink_distances import KinkDistanceFunction


def verify(
    fn: Callable[..., Any],
    against: Any,
    *,
    dtypes: Collection[Any] | None = None,
    backend: str | Backend | None = None,
    nests: bool = True,
    shapes: str | None = None,
    keywords: Mapping[str, Sequence[Any]] | None = None,
    kinks: KinkDistanceFunction | None = None,
    examples: int = N_EXAMPLES,
    seed: int | None = None,
    failures: str | Path = "failures",
    **unknown: Never,
) -> Report:
    """Verify value and gradients of a function, in this process, and return what was judged.

        def test_rms_norm():
            gradspec.verify(MyRMSNorm.apply, rms_norm, dtypes=["bfloat16", "float32"], nests=False)

    An op of your own is compared with numerical differentiation first. A function that never returns, or ends
    the process, does so here, too: `gradspec verify` on the command line gives it a process of its own.

    Args:
        fn: The function: of the op's arrays by position, and of its keywords by name. It is differentiated by
            the library of its arrays.
        against: What it must agree with: the name of an op, an op, a formula in NumPy whose arrays are
            annotated with domains, or a function of torch: one whose arrays are not, or whose value is
            annotated `torch.Tensor`. Such a function is exact in float64, with torch's own autograd.
        dtypes: The dtypes to try, by name, or as a library has them (torch.float32); by default all that the
            backend has, but for float64 where the reference is a function of torch.
        backend: The backend that has its arrays, by name or as an object. By default torch's if torch has
            been imported and the function takes its tensors, else CuPy's by the same rule, else NumPy's.
        nests: Whether its backward pass can itself be differentiated.
        shapes: Of a formula or function, the signature of its arrays and its value, such as
            "(*b,n),(n)->(*b,n)", in which nothing broadcasts but what `*b` stands for.
        keywords: Of a formula or function, the values to try of its keywords. By default its parameters tell:
            both truth values, all that a Literal has, the default, and half of it if that is a float.
        kinks: Of a formula or function, where it has kinks, as of `gradspec.op`.
        examples: How many examples of six cases Hypothesis draws.
        seed: What they are drawn from. By default they are others each time, and Hypothesis remembers those
            that failed.
        failures: The folder that the script of a failure is written to.
        **unknown: There are no other arguments; one that is given is named, with those most like it.

    Raises:
        AssertionError: The function breaks a law; the message has the smallest case found, and the path of a
            script that reproduces it. Or it declines every call, or hardly a case could have failed.
        TypeError: for arguments that do not go together, for an `against` that is none of the above, and for
            a function of torch that cannot be a reference.
        ValueError: for an op, a dtype or a backend that does not exist.
        Unavailable: The backend cannot run here.
    """
    __tracebackhide__ = True  # of pytest: the message has it all
    refuse_unknown(verify, unknown)
    caller = str(sys._getframe(1).f_globals.get("__name__", ""))
    request = Request(fn, against, dtypes, backend, nests, shapes, keywords, kinks, seed, failures, caller)
    return judge(request, ALL_LAWS, examples)
