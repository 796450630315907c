"""Do arrays and gradients pass the adapter unharmed, which converts arrays and differentiates the ops?

It is asked before anything else, of `from_numpy`, `to_numpy` and `vjp` alone, so that their failures are told
once, as the adapter's, and not as those of every op.

Does not see: whether a value or a gradient is right, arrays of more than six elements, a fault of `vjp` that
shows with one op alone, what `to_numpy` makes of results in layouts that only ops give them, or devices.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import bind_constants
from gradspec.properties.cases.layouts import lay_out
from gradspec.properties.cases.observed.sample_cases import make_sample_cases
from gradspec.properties.cases.program_ops import list_program_ops
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.attempt import WrongClassError
from gradspec.properties.judging.error_descriptions import describe_exception
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.judgement import Severity
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.reference import OPS
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

ADAPTER = "adapter"
"""What reports call `from_numpy`, `to_numpy` and `vjp` of a backend."""

Subject = Literal["arrays", "layouts", "labels and masks", "gradients"]

SUBJECTS: tuple[Subject, ...] = get_args(Subject)

LAYOUTS_AS_TOLD = {
    "reversed": "with negative strides",
    "expanded": "with zero strides",
    "read-only": "that is read-only",
    "fortran": "in Fortran order",
    "strided": "of every second element",
    "offset": "that starts within its memory",
}

MAX_OPS = 4
"""On so many ops, and on the identity, a pullback is tried; what two of them show is the adapter's."""


@dataclass(frozen=True)
class FirstContact(ReprCase):
    """A first contact with a backend in one dtype, about one subject."""

    target_name = ADAPTER

    dtype: str
    subject: Subject

    def as_lines(self) -> list[str]:
        return [f"in {self.dtype}"]


def arrays_and_gradients_pass_the_adapter(backend: Backend, contact: FirstContact) -> Judgement:
    """Judge whether the adapter keeps arrays as they are, and gives gradients as its interface says.

    `to_numpy(from_numpy(x))` has the dtype, the shape and the elements of x, in every layout. What ops return
    has the class of what `from_numpy` returns. `vjp` returns a value and a pullback; that returns one
    gradient per input, with its shape and dtype, and the same ones when called again. Value and gradients are
    of that class, too.
    """
    find = _find_fault_of_gradients if contact.subject == "gradients" else _find_fault_of_arrays
    fault = find(backend, contact)
    return Judgement("disagree", f"the adapter: {fault}") if fault else Judgement("agree")


def stops_the_rest(contact: FirstContact, judgement: Judgement) -> bool:
    """Return whether nothing else can be told of the backend in this dtype, as all of it would fail alike.

    What raises is told once, wherever it is met, and lets values be tried, unless no array of the dtype is
    taken at all. Labels and masks are of few ops, and what ends its process may be one op's alone.
    """
    is_refusal = " raised " in judgement.reason.split("\n")[0] or isinstance(judgement, CrashOrTimeout)
    return contact.subject == "arrays" or (contact.subject != "labels and masks" and not is_refusal)


# Arrays


def _find_fault_of_arrays(backend: Backend, contact: FirstContact) -> str:
    """Return the first array that the adapter does not keep, and what becomes of it; "" if there is none."""
    for what, x in _iterate_arrays(contact):
        try:
            array = backend.from_numpy(x)
        except Exception as error:
            return f"from_numpy of {what} {describe_exception(error)}"
        try:
            got = np.asarray(backend.to_numpy(array))
        except Exception as error:
            return f"to_numpy of {what}, after from_numpy, {describe_exception(error)}"
        if got.dtype != x.dtype:
            return f"from_numpy or to_numpy turns {x.dtype} into {got.dtype}"
        if got.shape != x.shape:
            return f"from_numpy or to_numpy turns the shape of {what} from {x.shape} into {got.shape}"
        if not _are_equal(got, x):
            return f"from_numpy or to_numpy turns {what} from {x.tolist()} into {got.tolist()}"
    return ""


def _iterate_arrays(contact: FirstContact) -> Iterator[tuple[str, Array]]:
    """Yield what an adapter must keep, each with its description."""
    if contact.subject == "labels and masks":
        numbers = [[0, 1, 2], [3, 2**40 + 1, 5]]
        for x in (np.array(numbers, np.int64), np.array([[True, False, False], [True, True, False]])):
            yield from _iterate_shapes(x)
        return
    dtype = dtype_of(contact.dtype)
    with np.errstate(all="ignore"):
        last_digit = 1 + np.spacing(np.ones((), dtype))  # lost where a narrower dtype is passed through
    x = np.array([[1.0, -2.0, last_digit], [np.inf, -0.0, np.nan]]).astype(dtype)
    if contact.subject == "arrays":
        yield from _iterate_shapes(x)
        return
    rows_alike = np.array(np.broadcast_to(x[:1], x.shape))
    for layout, words in LAYOUTS_AS_TOLD.items():
        yield f"a {contact.dtype} array {words}", lay_out(rows_alike if layout == "expanded" else x, layout)
        # One element is contiguous in any layout, so that what copies others leaves it as it is.
        yield f"a {contact.dtype} array of one element {words}", lay_out(x[0, :1], layout)


def _iterate_shapes(x: Array) -> Iterator[tuple[str, Array]]:
    yield f"a {x.dtype} array", x
    yield f"a {x.dtype} array of one element", x[0, :1].copy()
    yield f"a {x.dtype} array without axes", x[1, 1, ...].copy()
    yield f"a {x.dtype} array without elements", x[:0].copy()


def _are_equal(x: Array, y: Array) -> bool:
    """Return whether two arrays of one dtype and shape are equal, zeros in their sign, too."""
    if x.dtype.kind in "biu":
        return np.array_equal(x, y)
    same_sign = (np.signbit(x) == np.signbit(y)) | np.isnan(y)
    return bool(np.all(same_sign & ((x == y) | (np.isnan(x) & np.isnan(y)))))


# Gradients


def _find_fault_of_gradients(backend: Backend, contact: FirstContact) -> str:
    """Return what two functions at least, differentiated by the backend, show alike; "" if there is none.

    What one op alone shows is the op's.
    """
    faults = [
        _find_fault_of_pullback(backend, contact.dtype, fn, inputs, g)
        for fn, inputs, g in _iterate_functions(backend, contact.dtype)
    ]
    counts = Counter(kind for kind, _ in faults if kind)
    kind = next((kind for kind, count in counts.most_common(1) if count > 1), "")
    return next((words for k, words in faults if kind and k == kind), "")


def _iterate_functions(
    backend: Backend, dtype: str
) -> Iterator[tuple[Callable[..., Any], list[Array], Array]]:
    """Yield functions with inputs and a cotangent: some ops, those of several numbers first; the identity."""
    names = [name for name in list_program_ops(backend) if OPS[name].differentiable]
    names.sort(key=lambda name: (not OPS[name].elementwise, -len(OPS[name].arguments)))
    for name in names[:MAX_OPS]:
        form = next(form for form in OPS[name].value_forms if form.differentiable)
        case = max(make_sample_cases(form), key=_has_other_shapes)
        case = replace(case, dtype=dtype).map_float_arrays(lambda x: x.astype(dtype_of(dtype)))
        wrt = case.differentiable_inputs

        def fn(*xs: Any, case: Any = case, wrt: Any = wrt) -> Any:
            constants = [None if i in wrt else backend.from_numpy(x) for i, x in enumerate(case.inputs)]
            return bind_constants(backend, case, constants, wrt)(*xs)

        yield fn, [case.inputs[i] for i in wrt], case.cotangent
    x = np.array([1, -2, 0.5]).astype(dtype_of(dtype))
    yield (lambda x: x), [x], x


def _has_other_shapes(case: Case) -> bool:
    """Return whether a gradient has not the shape of the cotangent."""
    return any(case.inputs[i].shape != case.cotangent.shape for i in case.differentiable_inputs)


def _find_fault_of_pullback(
    backend: Backend, dtype: str, fn: Callable[..., Any], inputs: list[Array], g: Array
) -> tuple[str, str]:
    """Return the kind of the first fault that one function shows, and the fault in words; both "" if none."""
    try:
        arrays, cotangent = [backend.from_numpy(x) for x in inputs], backend.from_numpy(g)
        if wrong_class := _find_wrong_class(backend, lambda: fn(*arrays)):
            return _describe_class(wrong_class, "the ops return")
        value, pullback = backend.vjp(fn, *arrays)
        if wrong_class := _find_wrong_class(backend, lambda: value):
            return _describe_class(wrong_class, "the value that vjp returns is")
    except NotImplementedError:
        return "", ""  # it is not offered
    except Exception as error:
        return _describe(error, "vjp")
    results = []
    for what in ("the pullback", "the pullback, called again,"):
        try:
            results.append([np.asarray(backend.to_numpy(d)) for d in pullback(cotangent)])
        except NotImplementedError:
            return "", ""
        except Exception as error:
            if isinstance(error, WrongClassError) and not issubclass(error.found, np.generic):
                return _describe_class(error, "a gradient that the pullback returns is")
            return _describe(error, f"vjp: {what}")
    for x, d, again in zip(inputs, *results, strict=True):
        if d.shape != x.shape:
            return "shape", f"vjp: a gradient has shape {d.shape}, but its input {x.shape}"
        if d.dtype != x.dtype:
            return "dtype", f"vjp: a gradient has dtype {d.dtype}, but its input {x.dtype}"
        if again.shape != d.shape or not _are_alike(d, again):
            return "again", f"vjp: the pullback gives {d.tolist()}, and {again.tolist()} when called again"
    return "", ""


def _find_wrong_class(backend: Backend, compute: Callable[[], Any]) -> WrongClassError | None:
    """Return the error if a value is of another class than the backend's arrays; all others are the op's."""
    try:
        backend.to_numpy(compute())
    except WrongClassError as error:
        return error
    except Exception:
        return None
    return None


def _describe_class(error: WrongClassError, who: str) -> tuple[str, str]:
    """Return the kind of a fault of class, and the fault in words."""
    advice = "let from_numpy return what the ops take and return"
    if not who.startswith("the ops"):
        advice = "let vjp return what from_numpy returns"
    return f"class: {who}", f"from_numpy returns {error.expected}, but {who} {error.found_name}: {advice}"


def _describe(error: Exception, what: str) -> tuple[str, str]:
    """Return the kind of a fault that raises, and the fault in words."""
    description = describe_exception(error)
    if re.search(r"unpack|object is not callable$", description):  # raised by no code of the backend
        return "pair", "vjp does not return a value and a pullback"
    kind = f"{what} {type(error).__name__}"
    return kind, f"{what} {description}".replace("raised WrongKindError: the pullback returned", "returned")


def _are_alike(x: Array, y: Array) -> bool:
    """Return whether no number differs by an eighth: adding up doubles it, forgetting makes it zero."""
    wide, other = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(all="ignore"):
        close = (np.abs(wide - other) <= np.abs(wide) / 8) | (wide == other)
    return bool(np.all(close | (np.isnan(wide) & np.isnan(other))))
