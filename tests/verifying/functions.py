"""Functions that are wrong, and what `verify` says of one."""

from typing import Any

import pytest

import gradspec

torch = pytest.importorskip("torch")


SHAPES = "(*b,n),(n)->(*b,n)"


def fail(fn: Any, against: Any, **options: Any) -> str:
    """The message of a function that is wrong."""
    with pytest.raises(AssertionError) as caught:
        gradspec.verify(fn, against, **{"seed": 1, **options})
    return str(caught.value)


def silu(x: Any) -> Any:
    return x * torch.sigmoid(x)


class WrongSilu(torch.autograd.Function):  # type: ignore[misc,name-defined]
    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, g):  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return g * s * (1 + x - s)


def fault_in(law: str) -> tuple[Any, str]:
    """A function that breaks one kind of law alone, and the op it should be."""

    def write_to_input(x: Any) -> Any:
        value = torch.tanh(x)
        with torch.no_grad():
            x.mul_(1)
            x.add_(0.0) if x.numel() == 0 else x.view(-1)[0].add_(1)
        return value

    class FlatGradient(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x.detach())
            return torch.tanh(x)

        @staticmethod
        def backward(ctx, g):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            with torch.no_grad():
                slope = 1 - torch.tanh(x) ** 2
            return g * slope

    by_law: dict[str, tuple[Any, str]] = {
        "calls leave no trace": (write_to_input, "tanh"),
        "second derivatives agree": (FlatGradient.apply, "tanh"),
        "shapes and dtypes are kept": (lambda x: torch.tanh(x).double(), "tanh"),
        "other arguments may be constants": (
            lambda x, y: x * (y if x.requires_grad else 2 * y - y.detach()),
            "multiply",
        ),
    }
    return by_law[law]
