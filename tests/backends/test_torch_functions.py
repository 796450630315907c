"""Functions of torch as references: in which precision they run, and what their operations are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812 - needs torch

from gradspec.backends import torch_decompositions, torch_operations  # noqa: E402
from gradspec.backends.torch_functions import make_gradient, run  # noqa: E402
from gradspec.reference.rule import Array  # noqa: E402


class Recorder:
    """An observer that changes nothing, or every number by the same share, and counts."""

    def __init__(self, share: float = 0.0) -> None:
        self.share, self.count, self.sums = share, 0, list[str]()
        self.roundings = torch_decompositions.Roundings(np.random.default_rng(0), 0.0)

    def round_result(self, result: Array, inputs: Sequence[Array]) -> Array:
        self.count += 1
        return np.asarray(result * result.dtype.type(1 + self.share))

    def round_sum(self, result: Array, terms: Array, axis: tuple[int, ...]) -> Array:
        total = np.sum(terms, axis=axis).reshape(result.shape)
        np.testing.assert_allclose(total, result, rtol=1e-5, atol=1e-7)
        return self.round_result(result, [terms])

    def note_sum(self, name: str) -> None:
        self.sums.append(name)


def assert_close(got: Sequence[Any], expected: Sequence[Any], rtol: float, atol: float) -> None:
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


LABELS = torch.tensor([0, 2, 1, 1])

MADE_OF_SEVERAL: dict[str, Callable[..., Any]] = {
    "_log_softmax": lambda x: torch.log_softmax(x, 0),
    "_safe_softmax": lambda x: F.scaled_dot_product_attention(x, x.exp(), x),
    "_softmax": lambda x: torch.softmax(x, -1),
    "addmm": lambda x: torch.addmm(x[:3], x[1:], x[:3].exp(), beta=0.5, alpha=2),
    "baddbmm": lambda x: torch.baddbmm(x[None, :3], x[None, 1:], x[None, :3].exp()),
    "gelu": lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "logsumexp": lambda x: torch.logsumexp(x, -1) + torch.logsumexp(x, (0, 1), keepdim=True)[0],
    "native_layer_norm": lambda x: (
        F.layer_norm(x, (3,), torch.ones(3) * 2, torch.ones(3)) + F.layer_norm(x, (4, 3))
    ),
    "sigmoid_backward": torch.sigmoid,
    "silu": F.silu,
    "std": lambda x: torch.std(x, -1),
    "tanh_backward": torch.tanh,
    "var": lambda x: x.var() + x.var(0, correction=0) + x.var(0, False),
    "var_mean": lambda x: (
        torch.var_mean(x, 1, keepdim=True)[0] * torch.var_mean(x, 0)[1] + x.std(unbiased=False)
    ),
}
"""By the name of an operation that is taken apart, a function that has it, or its backward pass."""


@pytest.fixture
def taken_apart(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the operations that are taken apart in a test."""
    names = set[str]()
    find = torch_decompositions.find_decomposition

    def note(func: Any) -> Any:
        decomposition, name = find(func), func.overloadpacket.__name__

        def run_and_note(*args: Any, **keywords: Any) -> Any:
            names.add(name)
            assert decomposition is not None
            return decomposition(*args, **keywords)

        return decomposition and run_and_note

    monkeypatch.setattr(torch_operations, "find_decomposition", note)
    torch_operations._describe.cache_clear()
    return names


@pytest.fixture(autouse=True)
def _forget_operations() -> Any:
    yield
    torch_operations._describe.cache_clear()


@pytest.mark.parametrize("name", MADE_OF_SEVERAL)
def test_what_operations_are_made_of_gives_what_they_give(name: str, taken_apart: set[str]) -> None:
    """Value, gradients and second derivatives, in float64."""
    x = np.random.default_rng(1).standard_normal((4, 3))
    function = MADE_OF_SEVERAL[name]
    gradient = make_gradient(function, 1, [0])
    expected, pull = run(function, [x], {}, [0], None)
    got, pull_by_parts = run(function, [x], {}, [0], Recorder())
    g = np.random.default_rng(2).standard_normal(expected.shape)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert_close(pull_by_parts(g), pull(g), rtol=1e-11, atol=1e-13)
    second, other = (run(gradient, [x, g], {}, [0, 1], observer)[1] for observer in (None, Recorder()))
    assert_close(other(x), second(x), rtol=1e-10, atol=1e-12)
    assert name in taken_apart


def test_all_that_is_written_here_is_tried(taken_apart: set[str]) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3))
    for function in MADE_OF_SEVERAL.values():
        value, pull = run(function, [x], {}, [0], Recorder())
        pull(np.ones_like(value))
    assert taken_apart >= {*torch_decompositions.USUAL}


@pytest.mark.parametrize(
    "function",
    [
        F.elu, F.glu, F.hardsigmoid, F.hardswish, F.relu6, F.leaky_relu, F.logsigmoid, F.mish, F.softplus,
        lambda x: F.huber_loss(x, x * x), lambda x: F.mse_loss(x, x * x), lambda x: torch.lerp(x, x * x, 0.3),
        lambda x: F.smooth_l1_loss(x, x * x), lambda x: F.binary_cross_entropy_with_logits(x, x.sigmoid()),
        lambda x: F.binary_cross_entropy(torch.sigmoid(x), torch.rand(4, 4).sigmoid() * 0 + 0.3),
        lambda x: F.group_norm(x[None], 2), lambda x: F.batch_norm(x, None, None, training=True),
        lambda x: torch.linalg.vector_norm(x, dim=-1), lambda x: torch.addcmul(x, x, x.exp()),
        lambda x: torch.logaddexp(x, x * x), lambda x: F.cross_entropy(x, LABELS),
    ],
)  # fmt: skip
def test_what_torch_says_they_are_made_of_does_too(function: Callable[..., Any]) -> None:
    """As nearly as torch's own hardsigmoid is right in float64, which has 1/6 in float32."""
    x = np.random.default_rng(1).standard_normal((4, 4))
    expected, pull = run(function, [x], {}, [0], None)
    got, pull_by_parts = run(function, [x], {}, [0], Recorder())
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    g = np.ones_like(expected)
    assert_close(pull_by_parts(g), pull(g), rtol=1e-7, atol=1e-10)


def test_what_is_cast_to_float32_is_run_in_float64() -> None:
    def norm(x: Any) -> Any:
        wide = x.float()
        table = torch.arange(3, dtype=torch.float32) / 7 + torch.tensor(0.1)
        normalized = wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True))
        return (normalized * torch.sin(table)).to(torch.bfloat16)

    x = np.random.default_rng(1).standard_normal((4, 3))
    value, pull = run(norm, [x], {}, [0], None)
    assert value.dtype == np.float64
    expected = x / np.sqrt(np.mean(x * x, -1, keepdims=True)) * np.sin(np.arange(3) / 7 + 0.1)
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    (gradient,) = pull(x)
    assert np.asarray(gradient).dtype == np.float64
    assert torch.get_default_dtype() == torch.float32


def test_every_operation_of_both_passes_is_shown_once() -> None:
    """Those of the sum of gradients too; not what only moves numbers or makes them."""
    x = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)

    def function(x: Any) -> Any:
        y = torch.exp(x.reshape(3, 4).T.clone())  # 1 operation, and 1 of its backward pass
        return torch.cat([y * x, torch.ones_like(x)])  # 1, and 2

    recorder = Recorder()
    value, pull = run(function, [x], {}, [0], recorder)
    assert recorder.count == 2
    pull(np.ones_like(value))
    assert recorder.count == 2 + 4  # the fourth adds up what came to x by y and by itself
    moved, _ = run(function, [x], {}, [0], Recorder(share=0.25))
    np.testing.assert_allclose(moved[:4], value[:4] * 1.25**2, rtol=1e-6)
    np.testing.assert_array_equal(moved[4:], 1)


def test_sums_are_noted() -> None:
    recorder = Recorder()
    run(lambda x: torch.softmax(x @ x.T, -1).mean(), [np.ones((2, 3))], {}, [0], recorder)
    assert recorder.sums == ["mm", "sum", "mean"]


def test_what_is_written_in_place_is_moved_there() -> None:
    def function(x: Any) -> Any:
        y = torch.zeros_like(x)
        y.add_(x)
        return y

    value, _ = run(function, [np.ones(2, np.float32)], {}, [0], Recorder(share=0.25))
    np.testing.assert_array_equal(value, 1.25)
