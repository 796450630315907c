"""Does a small network learn: does every parameter move, does the loss fall, and both as in the spec?

Does not see: ops other than the four of the network, errors smaller than what rounding grows to in ten steps,
gradients of the data, updates of parameters by the backend (they are computed in NumPy), 16-bit dtypes, or
sizes beyond six.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.literals import format_assignments
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.judging.judge import Judgement, combine_judgements, make_spec_judge
from gradspec.properties.judging.judgement import Severity
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

NETWORK_OPS = {"linear", "layer_norm", "relu", "cross_entropy"}
TRAINING_STEPS = 10
LEARNING_RATE = 0.1

Parameters = Mapping[str, Array]


@dataclass(frozen=True)
class TrainingCase(ReprCase):
    """A classification task: sizes, and the seed of its data and of the initial parameters."""

    seed: int
    dtype: str
    examples: int
    inputs: int
    hidden: int
    classes: int

    def draw_data(self) -> tuple[Array, Array]:
        """Return x, of shape (examples, inputs), and the targets, of shape (examples)."""
        rng = np.random.default_rng(self.seed)
        x = rng.standard_normal((self.examples, self.inputs)).astype(dtype_of(self.dtype))
        return x, rng.integers(0, self.classes, self.examples)

    def draw_parameters(self) -> Parameters:
        """Return the initial parameters by name."""
        rng = np.random.default_rng(self.seed + 1)
        shapes = {
            "weight1": (self.hidden, self.inputs), "bias1": (self.hidden,), "scale": (self.hidden,),
            "shift": (self.hidden,), "weight2": (self.classes, self.hidden), "bias2": (self.classes,),
        }  # fmt: skip
        return {
            name: rng.standard_normal(shape).astype(dtype_of(self.dtype)) for name, shape in shapes.items()
        }


def describe_calls(task: TrainingCase, name_op: Callable[[str], str]) -> list[str]:
    """Return the data and the first parameters as NumPy literals, and below them the loss as calls.

    Args:
        task: The task.
        name_op: From the name of an op to that of the library's function.
    """
    linear, layer_norm, relu, cross_entropy = map(name_op, ("linear", "layer_norm", "relu", "cross_entropy"))
    x, target = task.draw_data()
    return [
        *format_assignments({"x": x, "target": target, **task.draw_parameters()}),
        f"# h = {relu}({layer_norm}({linear}(x, weight1, bias1), scale, shift))",
        f"# loss = {cross_entropy}({linear}(h, weight2, bias2), target)",
        f"# {TRAINING_STEPS} times: every parameter less {LEARNING_RATE} of its gradient",
    ]


def train(
    backend: Backend, task: TrainingCase, convert: Callable[[Array], Array] = np.copy
) -> tuple[Parameters, Array]:
    """Return the parameters after gradient descent and the loss before each step, in `convert`'s dtype."""
    ops, (x, target) = backend.ops, task.draw_data()
    batch, labels = backend.from_numpy(convert(x)), backend.from_numpy(target)

    def loss(*parameters: Array) -> Array:
        weight1, bias1, scale, shift, weight2, bias2 = parameters
        h = ops["relu"](ops["layer_norm"](ops["linear"](batch, weight1, bias1), scale, shift))
        return ops["cross_entropy"](ops["linear"](h, weight2, bias2), labels)

    losses, parameters = [], {name: convert(p) for name, p in task.draw_parameters().items()}
    for _ in range(TRAINING_STEPS):
        value, pullback = backend.vjp(loss, *map(backend.from_numpy, parameters.values()))
        losses.append(backend.to_numpy(value))
        gradients = map(backend.to_numpy, pullback(backend.from_numpy(np.ones_like(losses[0]))))
        parameters = {
            k: p - p.dtype.type(LEARNING_RATE) * d
            for (k, p), d in zip(parameters.items(), gradients, strict=True)
        }
    return parameters, np.array(losses)


def a_network_learns_as_the_spec_does(backend: Backend, task: TrainingCase) -> Judgement:
    """Judge whether every parameter moves, the loss falls if the spec's does, and both are as in the spec."""
    spec = make_spec_judge(task.dtype, lambda spec, convert: train(spec, task, convert), NETWORK_OPS)
    got, losses = train(backend, task)
    exact, exact_losses = spec.exact
    for name, p in task.draw_parameters().items():
        if np.array_equal(got[name], p) and not np.array_equal(exact[name], p):
            return Judgement("disagree", f"{name} has not moved in {TRAINING_STEPS} steps")
    if exact_losses[-1] < exact_losses[0] and not losses[-1] < losses[0]:
        return Judgement(
            "disagree", f"the loss should have fallen, but went from {losses[0]} to {losses[-1]}"
        )
    judgements = [spec.judge(f"trained {k}", got[k], lambda end, k=k: end[0][k]) for k in got]  # type: ignore[misc]
    return combine_judgements([*judgements, spec.judge("loss", losses, lambda end: end[1])])
