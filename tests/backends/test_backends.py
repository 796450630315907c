"""Tests of backends: interface, conversion of arrays, loading by name, and every op forward and backward."""

import sys
import types
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import array_api_compat.torch
import numpy as np
import pytest
import torch

from gradspec.backends import Backend, Declined, Unavailable, call, load, load_all, loading, ops_from
from gradspec.backends.backend import Deviation
from gradspec.backends.torch import from_numpy, to_numpy
from gradspec.reference import OPS, Op
from gradspec.reference.calls import SmallestChoices
from tests.backends.checks import (
    DTYPES,
    GETITEM_KEYS,
    TOLERANCES,
    VIEWS,
    ShortAxisChoices,
    assert_agrees_with_spec,
    draw_array,
)
from tests.helpers.pytest_runs import read_example_backend

# Every op, forward and backward


def check_allowing_known_deviation(backend: Backend, op: Op, check: Callable[[], None]) -> None:
    """Run the check; for an op with a known deviation it may fail."""
    try:
        check()
    except Exception:
        if op.name not in backend.known:
            raise


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_every_op_runs_forward_and_backward_in_every_dtype(name: str, op: Op) -> None:
    backend = load(name)
    for dtype in backend.dtypes:
        assert_agrees_with_spec(backend, op, DTYPES[dtype], SmallestChoices(), TOLERANCES[dtype])


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_torch_agrees_with_the_spec_on_random_cases(op: Op) -> None:
    backend = load("torch")
    for dtype in backend.dtypes:
        for seed in range(4):
            choices = ShortAxisChoices(seed)
            check = partial(assert_agrees_with_spec, backend, op, DTYPES[dtype], choices, TOLERANCES[dtype])
            check_allowing_known_deviation(backend, op, check)


@pytest.mark.parametrize("key", GETITEM_KEYS, ids=repr)
def test_torch_takes_the_keys_of_numpy(key: Any) -> None:
    x = np.arange(24.0).reshape(4, 3, 2)
    np.testing.assert_array_equal(to_numpy(load("torch").ops["getitem"](from_numpy(x), key=key)), x[key])


def test_torch_refuses_a_float_among_the_arrays_of_a_key() -> None:
    with pytest.raises(IndexError):
        load("torch").ops["getitem"](torch.zeros(3, 1), key=(np.array([0]), np.array(0.0)))


def test_torch_softplus_keeps_what_float64_can_tell() -> None:
    x = np.array([20.5, 25.0, 30.0])
    backend = load("torch")
    assert (to_numpy(backend.ops["softplus"](from_numpy(x))) > x).all()


def test_torch_reduces_over_no_axes_as_numpy_does() -> None:
    x = from_numpy(np.ones((2, 3)))
    for name in ("sum", "mean", "max", "min", "prod", "var", "logsumexp"):
        assert load("torch").ops[name](x, axis=()).shape == (2, 3)


def test_torch_clamp_still_raises_where_its_bounds_have_two_shapes() -> None:
    """Once it no longer raises, `_clip` in backends/torch.py need not broadcast the bounds to one shape."""
    x, low, high = (from_numpy(np.ones(shape)) for shape in ((1,), (1,), (2,)))
    _, pullback = load("torch").vjp(torch.clamp, x, low, high)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        pullback(from_numpy(np.ones(2)))


@pytest.mark.parametrize(
    "shapes", [((1,), (1,), (2,)), ((), (2, 1), (3,)), ((2, 3), (), (1, 1)), ((3,), (1, 0, 1), ())]
)
def test_torch_clip_takes_bounds_of_two_shapes(shapes: list[tuple[int, ...]]) -> None:
    x, low, high = (from_numpy(np.ones(shape)) for shape in shapes)
    value, pullback = load("torch").vjp(load("torch").ops["clip"], x, low, 2 * high)
    assert [g.shape for g in pullback(torch.ones_like(value))] == [*shapes]


def test_what_is_excused_of_torch_clip_is_one_law() -> None:
    assert [d.law for d in load("torch").deviations if d.op == "clip"] == [
        "gradient at kinks is a legal subgradient"
    ]


# Arrays there and back


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VIEWS)
def test_torch_keeps_elements_and_layout(name: str, dtype: str) -> None:
    x = VIEWS[name](np.arange(24).reshape(4, 6).astype(DTYPES[dtype]))
    x.setflags(write=False)
    t = from_numpy(x)
    back = to_numpy(t)
    np.testing.assert_array_equal(back, x)
    assert (back.dtype, back.shape) == (x.dtype, x.shape)
    assert str(t.dtype) == f"torch.{dtype}"
    if name not in ("negative", "empty reversed", "fraction"):
        assert t.stride() == tuple(s // x.itemsize for s in x.strides)
    assert t.storage_offset() == {"offset": 7, "strided": 1, "0-d": 15}.get(name, t.storage_offset())


def test_a_long_offset_is_kept_between_vector_loads_and_drags_nothing_along() -> None:
    t = from_numpy(np.zeros(1_000_000, np.float32)[500_003:][:4])
    assert t.storage_offset() % 16 == 500_003 % 16
    assert t.untyped_storage().nbytes() < 1000


def test_torch_tensors_share_no_memory_with_arrays() -> None:
    x = np.zeros(3)
    t = from_numpy(x)
    y = to_numpy(t)
    t += 1
    assert not x.any()
    assert not y.any()


def test_to_numpy_takes_any_tensor() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    negative = torch.view_as_complex(x.detach().reshape(3, 2)).conj().imag
    for t in (x.requires_grad_(), x[:, :1].expand(2, 4), x.T, negative):
        np.testing.assert_array_equal(to_numpy(t), t.detach().resolve_neg().numpy())


# Differentiation


def make_two_programs(backend: Backend) -> tuple[Callable[[Any], Any], Callable[..., Any]]:
    square, multiply = backend.ops["square"], backend.ops["multiply"]
    return lambda x: multiply(x, square(x)), lambda x, y: square(x)


BACKEND_NAMES = ["numpy", "torch", "my_backend:backend"]


@pytest.fixture
def readme_backend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Backend:
    """The backend that the README shows in full."""
    (tmp_path / "my_backend.py").write_text(read_example_backend(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return load("my_backend:backend")


@pytest.fixture
def backend(request: pytest.FixtureRequest, readme_backend: Backend) -> Backend:
    return load(request.param)


@pytest.mark.parametrize("backend", BACKEND_NAMES, indirect=True)
def test_second_derivatives(backend: Backend) -> None:
    cube, _ = make_two_programs(backend)
    x, g = backend.from_numpy(np.array([1.0, 2.0])), backend.from_numpy(np.array([1.0, 10.0]))
    _, pullback = backend.vjp(lambda x: backend.vjp(cube, x)[1](g)[0], x)
    np.testing.assert_array_equal(backend.to_numpy(pullback(g)[0]), [6, 1200])  # g 6x g
    _, pullback = backend.vjp(lambda g: backend.vjp(cube, x)[1](g)[0], g)
    # 3x^2 g: it is linear in the cotangent.
    np.testing.assert_array_equal(backend.to_numpy(pullback(g)[0]), [3, 120])


@pytest.mark.filterwarnings("ignore:Output seems independent of input")  # a warning of HIPS autograd
@pytest.mark.parametrize("backend", BACKEND_NAMES, indirect=True)
def test_an_unused_input_has_a_gradient_of_zeros(backend: Backend) -> None:
    _, first = make_two_programs(backend)
    x, y = backend.from_numpy(np.ones(2)), backend.from_numpy(np.ones((3, 1)))
    value, pullback = backend.vjp(first, x, y)
    for _ in range(2):  # a pullback may be called again
        gx, gy = map(backend.to_numpy, pullback(value))
        np.testing.assert_array_equal(gx, [2, 2])
        np.testing.assert_array_equal(gy, np.zeros((3, 1)))
    _, pullback = backend.vjp(lambda x: y, x)
    np.testing.assert_array_equal(backend.to_numpy(pullback(y)[0]), [0, 0])


def test_torch_leaves_inputs_as_they_were_and_detaches_the_value() -> None:
    backend = load("torch")
    x = from_numpy(np.ones(2))
    with torch.no_grad():
        value, pullback = backend.vjp(backend.ops["exp"], x)
    assert not x.requires_grad
    assert not value.requires_grad
    assert not pullback(value)[0].requires_grad
    assert x.grad is None


def test_the_example_agrees_with_the_spec(readme_backend: Backend) -> None:
    for name in readme_backend.ops:
        for seed in range(10):
            arguments = readme_backend, OPS[name], DTYPES["float64"], ShortAxisChoices(seed), 1e-10
            check = partial(assert_agrees_with_spec, *arguments)
            with suppress(Declined):  # where broadcasts
                check_allowing_known_deviation(readme_backend, OPS[name], check)


# Ops of an Array API namespace


def test_ops_from_numpy_are_its_own_functions() -> None:
    ops = ops_from(np)
    assert ops["sum"] is np.sum
    assert not set(ops) & {"relu", "softmax", "layer_norm"}
    x = np.arange(6.0).reshape(2, 3)
    for op in (OPS[name] for name in ops):
        for seed in range(4):
            case = op.draw_call(ShortAxisChoices(seed))
            rng = np.random.default_rng(seed)
            arrays = [draw_array(op, i, s, rng) for i, s in enumerate(case.shapes)]
            expected = call(op, op, arrays, case.keywords)
            np.testing.assert_allclose(call(op, ops[op.name], arrays, case.keywords), expected, 1e-12)
    assert ops["expand_dims"](x, axis=(0, -1)).shape == (1, 2, 3, 1)


def test_ops_from_takes_what_there_is() -> None:
    """A namespace with no more than the standard: one axis for expand_dims, no device on its arrays."""
    strict = types.SimpleNamespace(
        expand_dims=lambda x, /, *, axis=0: np.expand_dims(x, int(axis)),
        asarray=np.asarray,
        softmax=lambda x, dim: x,  # an op of the spec has this name, but no function of the standard
    )
    ops = ops_from(strict)
    assert set(ops) == {"expand_dims", "getitem"}
    for axis in (0, -1, (1, 0), (-1, 0), (-1, -2), (0, 1, 4)):
        x = np.ones((2, 3))
        assert ops["expand_dims"](x, axis=axis).shape == np.expand_dims(x, axis).shape


def test_ops_from_torch_convert_keys() -> None:
    getitem = ops_from(array_api_compat.torch)["getitem"]
    assert getitem(torch.arange(3), key=np.array([2, 0])).tolist() == [2, 0]
    assert getitem(torch.arange(3), key=(np.array([True, False, True]),)).tolist() == [0, 2]


def test_ops_from_an_image_of_numpy_convert_keys_without_a_device() -> None:
    """As in HIPS autograd and mygrad, whose arrays may be NumPy arrays, which do have a device."""
    getitem = ops_from(types.SimpleNamespace(asarray=lambda x: np.array(x, copy=None)))["getitem"]
    assert getitem(np.arange(3), key=np.array([2, 0])).tolist() == [2, 0]
    assert getitem(np.arange(3), key=(np.array([True, False, True]),)).tolist() == [0, 2]


# The interface


def make_backend(**changes: Any) -> Backend:
    fields: dict[str, Any] = {"name": "mine", "ops": {"log": np.log}}
    fields |= {"vjp": None, "from_numpy": None, "to_numpy": None}
    return Backend(**fields | changes)


def test_a_backend_needs_little() -> None:
    backend = make_backend()
    backend.synchronize()
    assert backend.dtypes == {"float64", "float32"}
    assert backend.known == {}
    assert backend.device == "cpu"
    with pytest.raises(TypeError):
        backend.ops["exp"] = np.exp  # type: ignore[index]
    assert len({backend, make_backend()}) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"ops": {"layernorm": np.log}},
            "no op 'layernorm', unless you declare it by `gradspec.op` before; did you mean 'layer_norm'?",
        ),
        ({"dtypes": {"float128"}}, "backend 'mine': there is no dtype 'float128'; did you mean "),
        ({"known": {"exp": "link"}}, "backend 'mine': `known` names op 'exp', which is not in `ops`; "),
        ({"known": {"log[float23]": "link"}}, "`known` names dtype 'float23', which is not in `dtypes`; "),
    ],
)
def test_errors_name_what_is_near(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        make_backend(**changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("where", "parts"),
    [
        ("exp", ("exp", set(), "")),
        ("exp: value agrees", ("exp", set(), "value agrees")),
        ("exp[float16, bfloat16]: value agrees", ("exp", {"float16", "bfloat16"}, "value agrees")),
        ("exp (numpy>=2)", ("exp", set(), "")),
        ("exp[float16] (numpy>=2.0,<100): value agrees", ("exp", {"float16"}, "value agrees")),
        ("exp(numpy != 1.9)", ("exp", set(), "")),
        ("exp: a law (that has brackets)", ("exp", set(), "a law (that has brackets)")),
    ],
)
def test_an_entry_of_known_is_parsed(where: str, parts: tuple[str, set[str], str]) -> None:
    deviation = Deviation.parse(where, "why")
    assert (deviation.op, set(deviation.dtypes), deviation.law) == parts
    assert deviation.is_of_this_version


@pytest.mark.parametrize("versions", ["numpy<2", "numpy>=100", "numpy==1.*", "numpy>=2,<2"])
def test_an_entry_of_other_versions_is_as_if_it_were_not_there(versions: str) -> None:
    known = {f"log ({versions})": "fixed since", "log[float32]": "still there"}
    assert [d.declaration for d in make_backend(known=known).deviations] == ["log[float32]"]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("log (jaxx<2)", "`known` names 'log (jaxx<2)', and jaxx is not installed"),
        ("log (numpy=<2)", "`known` names 'log (numpy=<2)', whose versions are malformed: "),
        ("log (<2)", "malformed"),
        ("log ()", "malformed"),
        ("log (numpy)", "expected a library and versions, as in (jax<0.13)"),
        ("log (numpy<2", "expected a library and versions"),
        ("log (numpy<2; python_version<'3')", "expected a library and versions"),
        ("log (numpy<2)[float32]", "malformed"),
        ("logg (numpy<2)", "`known` names op 'logg', which is not in `ops`"),
        ("log[float23] (numpy<2)", "`known` names dtype 'float23', which is not in `dtypes`"),
    ],
)
def test_what_an_entry_says_of_versions_is_checked(where: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        make_backend(known={where: "why"})
    assert message in str(error.value)


def test_one_string_is_not_a_set_of_dtypes() -> None:
    with pytest.raises(TypeError, match="is one name"):
        make_backend(dtypes="float32")


def test_with_ops_offers_just_those_and_calls_them() -> None:
    def wrong(x: Any) -> Any:
        return 2 * x

    kernels = load("torch").with_ops(name="kernels", silu=wrong, dtypes={"float64"})
    assert set(kernels.ops) == {"silu"}
    assert kernels.known == {}
    assert kernels.dtypes == {"float64"}
    with pytest.raises(AssertionError, match="Not equal"):
        assert_agrees_with_spec(kernels, OPS["silu"], DTYPES["float64"], SmallestChoices(), 1e-10)
    with pytest.raises(ValueError, match="did you mean 'silu'"):
        load("torch").with_ops(name="kernels", sillu=wrong)


def test_call_gives_a_sequence_to_ops_that_take_one() -> None:
    x = np.ones(2)
    assert call(OPS["concat"], np.concat, [x, x], {"axis": 0}).shape == (4,)
    assert call(OPS["add"], np.add, [x, x], {}).shape == (2,)


# Loading


def install_module(monkeypatch: pytest.MonkeyPatch, **contents: Any) -> str:
    """Install a module with these contents, and return its name."""
    module = types.ModuleType("my_module")
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, "my_module", module)
    return "my_module"


def test_backends_load_by_name() -> None:
    assert load("numpy").name == "numpy"
    assert load("torch").name == "torch"
    assert set(load("torch").ops) == set(OPS)


def test_backends_load_from_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = make_backend()
    namespace = types.SimpleNamespace(kind=mine)
    name = install_module(monkeypatch, backend=mine, make=lambda: mine, Some=namespace, number=3)
    assert load(f"{name}:backend") is load(f"{name}:make") is load(f"{name}:Some.kind") is mine
    with pytest.raises(TypeError, match="not 3"):
        load(f"{name}:number")
    with pytest.raises(ValueError, match="no attribute 'missing'"):
        load(f"{name}:missing")


def offer_as_entry_points(monkeypatch: pytest.MonkeyPatch, **references: str) -> None:
    points = [EntryPoint(name, value, loading.ENTRY_POINT_GROUP) for name, value in references.items()]
    by_group = {loading.ENTRY_POINT_GROUP: points}
    monkeypatch.setattr(loading, "entry_points", lambda group: by_group.get(group, []))


def test_backends_load_from_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = make_backend()
    name = install_module(monkeypatch, backend=mine)
    offer_as_entry_points(monkeypatch, theirs=f"{name}:backend", numpy=f"{name}:backend")
    assert load("theirs") is mine
    assert load("numpy") is not mine


def test_an_unknown_name_is_an_error_that_helps() -> None:
    with pytest.raises(ValueError, match="no backend 'torhc'; did you mean 'torch'"):
        load("torhc")
    with pytest.raises(ValueError, match="no backend 'torch:'"):
        load("torch:")
    with pytest.raises(ValueError, match=r"there is no module 'nowhere'; is its folder on PYTHONPATH\?"):
        load("nowhere.at_all:backend")


def test_what_cannot_run_says_why_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "gradspec.backends.numpy", None)
    install_module(monkeypatch)  # without a backend
    offer_as_entry_points(monkeypatch, broken="my_module:backend", absent="no_such_library:backend")
    backends = load_all()
    assert str(backends["torch:cuda"]) == "torch:cuda: torch sees no CUDA device"
    assert str(backends["absent"]) == "absent: no_such_library is not installed"
    assert str(backends["broken"]).startswith("broken: module 'my_module' has no attribute")
    assert isinstance(backends["torch"], Backend)
    assert isinstance(backends["numpy"], Unavailable)
    with pytest.raises(Unavailable):
        load("torch:cuda")
