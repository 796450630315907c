"""The engines that programs run on: each turns a `Workload` into a call that returns its gradients."""

# pyright: reportAttributeAccessIssue=false
# HIPS autograd makes its functions when it is imported, so no type checker sees them.

from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from asv_bench.workloads.programs import Array, Workload

GradientFunction = Callable[[], tuple[Array, ...]]


def by_hand(work: Workload) -> GradientFunction:
    """Use NumPy without a tape."""
    differentiate = work.by_hand
    assert differentiate is not None, f"nobody has differentiated {work.name} by hand"
    return lambda: differentiate(*work.inputs, work.cotangent)


def gradspec(work: Workload) -> GradientFunction:
    """Use the spec's tape, through `backward`."""
    from gradspec.reference import OPS, Tensor

    # As the methods of Tensor do.
    ops = SimpleNamespace(**{name: op.apply for name, op in OPS.items()})

    def run() -> tuple[Array, ...]:
        tensors = [Tensor(x, requires_grad=i < work.differentiable_count) for i, x in enumerate(work.inputs)]
        work.program(ops, *tensors).backward(work.cotangent)
        return tuple(x.grad.data for x in tensors[: work.differentiable_count] if x.grad is not None)

    return run


def hips(work: Workload) -> GradientFunction:
    """Use HIPS autograd, with the layers written in its NumPy."""
    import autograd.numpy as anp
    from autograd import make_vjp

    def log_softmax(x: Any) -> Any:
        shifted = x - anp.max(x, axis=-1, keepdims=True)
        return shifted - anp.log(anp.sum(anp.exp(shifted), axis=-1, keepdims=True))

    def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
        centred = x - anp.mean(x, axis=-1, keepdims=True)
        var = anp.mean(centred * centred, axis=-1, keepdims=True)
        return centred / anp.sqrt(var + np.float32(1e-5)) * weight + bias

    ops = SimpleNamespace(
        log=anp.log,
        relu=lambda x: anp.maximum(x, 0),
        linear=lambda x, weight, bias: anp.dot(x, weight.T) + bias,
        cross_entropy=lambda x, target: -anp.mean(log_softmax(x)[np.arange(len(target)), target]),
        layer_norm=layer_norm,
    )
    n = work.differentiable_count
    vjp = make_vjp(lambda xs: work.program(ops, *xs, *work.inputs[n:]), 0)
    return lambda: tuple(map(np.asarray, vjp(tuple(work.inputs[:n]))[0](work.cotangent)))


def torch(work: Workload) -> GradientFunction:
    """Use torch, op by op on the CPU."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    ops = SimpleNamespace(
        log=torch.log,
        relu=torch.relu,
        linear=functional.linear,
        cross_entropy=functional.cross_entropy,
        layer_norm=lambda x, weight, bias: functional.layer_norm(x, weight.shape, weight, bias),
    )
    inputs = [torch.tensor(x) for x in work.inputs]
    cotangent = torch.tensor(work.cotangent)

    def run() -> tuple[Array, ...]:
        tensors = [x.detach().requires_grad_(i < work.differentiable_count) for i, x in enumerate(inputs)]
        work.program(ops, *tensors).backward(cotangent)
        return tuple(x.grad.numpy() for x in tensors[: work.differentiable_count] if x.grad is not None)

    return run


ENGINE_BY_NAME: Mapping[str, Callable[[Workload], GradientFunction]] = {
    "by hand": by_hand,
    "gradspec": gradspec,
    "HIPS autograd": hips,
    "torch eager": torch,
}


def prepare_engines(
    work: Workload, names: Collection[str] = tuple(ENGINE_BY_NAME)
) -> dict[str, GradientFunction]:
    """Return the engines that are installed, each warmed up and checked to have the gradients of the tape.

    Raises:
        AssertionError: where a gradient of an engine is not the tape's.
    """
    runs = {}
    expected = gradspec(work)()
    for name in names:
        try:
            runs[name] = ENGINE_BY_NAME[name](work)
        except ImportError:
            continue
        for gradient, g in zip(runs[name](), expected, strict=True):
            assert gradient.shape == g.shape, (
                f"{work.name}: {name} has a gradient of shape {gradient.shape}, the tape {g.shape}"
            )
            error = np.max(np.abs(gradient - g)) / np.max(np.abs(g))
            assert error <= work.rtol, (
                f"{work.name}: {name} is {error:.1e} from the tape; at most {work.rtol} is allowed"
            )
    return runs
