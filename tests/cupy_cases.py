"""Cases for the kernels of the CuPy backend: rows, columns and tables that several warps or blocks share."""

from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Case
from gradspec.properties.judging.attempt import judged
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def case(
    name: str, dtype: str, *inputs: Any, layout: str = "C", cotangent: float | None = None, **keywords: Any
) -> Case:
    """A case with all its arrays in one layout. cotangent: all that the cotangent is of; by default it is random."""
    shape = np.shape(OPS[name].rule(*map(np.asarray, inputs), **keywords)[0])
    g = normal(*shape, seed=9) if cotangent is None else np.full(shape, cotangent)
    return Case.of(name, dtype, inputs, keywords, g, (layout,) * (len(inputs) + 1))


def long_rows(dtype: str) -> list[Case]:
    """Rows of several warps, of odd lengths, longer than a block holds and more than there are blocks; columns; tables.

    Columns are those of several warps, tables have several tiles and strips.
    """
    cases = []
    for n in (300, 513, 4100):
        x, targets = normal(3, n), np.arange(3) * (n // 3)
        cases += [
            case("softmax", dtype, x, axis=-1),
            case("log_softmax", dtype, x, axis=1),
            case("cross_entropy", dtype, x, targets, reduction="mean"),
            case("cross_entropy", dtype, x, targets, reduction="sum", cotangent=1),
            case("layer_norm", dtype, x, normal(n, seed=1), normal(n, seed=2)),
            case("tanh", dtype, x),
            case("divide", dtype, x, normal(3, n, seed=1) + 8),
            case("maximum", dtype, x, normal(n, seed=1)),
        ]
    planes, classes = normal(2, 75, 300), np.arange(600).reshape(2, 300) % 75
    cases += [
        case("layer_norm", dtype, normal(9, 2048), normal(2048, seed=1), normal(2048, seed=2)),
        case("softmax", dtype, normal(3, 40, 2), axis=1),
        case("softmax", dtype, planes, axis=1),
        case("softmax", dtype, normal(33, 17), axis=0),
        case("log_softmax", dtype, planes, axis=1),
        case("cross_entropy", dtype, planes, classes, reduction="none"),
        case("cross_entropy", dtype, planes, classes, reduction="mean", cotangent=1),
        case("multiply", dtype, normal(150, 1), normal(1, 300)),
        case("multiply", dtype, normal(150, 1), normal(1, 513)),
        case("multiply", dtype, normal(200, 33), normal(33)),
        case("add", dtype, normal(2, 200, 33), normal(2, 1, 33)),
        case("add", dtype, normal(2, 3, 1, 40), normal(1, 200, 1)),
        case("add", dtype, normal(3, 1500), normal(1, 1)),
        case("sum", dtype, normal(2, 200, 33), axis=(0, 2)),
        case("mean", dtype, normal(3, 2048)),
        case("linear", dtype, normal(130, 5), normal(7, 5), normal(7)),
    ]
    return cases


def small_rows(dtype: str) -> list[Case]:
    """One row, one column, lengths about that of a warp, and all of it off the places of vector loads."""
    cases = []
    for m, n in ((1, 1), (5, 1), (1, 31), (2, 33), (3, 8)):
        for layout in ("C", "offset"):
            x = normal(m, n)
            cases += [
                case("softmax", dtype, x, axis=-1, layout=layout),
                case("log_softmax", dtype, x, axis=-1, layout=layout),
                case("cross_entropy", dtype, x, np.arange(m) % n, reduction="none", layout=layout),
                case("cross_entropy", dtype, x, np.arange(m) % n, cotangent=1, layout=layout),
                case("layer_norm", dtype, x, normal(n, seed=1), normal(n, seed=2), layout=layout),
                case("tanh", dtype, x, layout=layout),
                case("multiply", dtype, normal(m, 1), normal(1, n), layout=layout),
                case("add", dtype, x, normal(n), layout=layout),
                case("pow", dtype, np.exp(x), normal(m, n, seed=1), layout=layout),
            ]
    return cases


def broken(backend: Backend, cases: list[Case]) -> list[str]:
    """Which ops the backend gets wrong, by values or by gradients."""
    laws = (value_agrees, every_gradient_agrees)
    found = [(c.op.name, judged(law, backend, c)) for c in cases for law in laws]
    return sorted({name for name, judgement in found if judgement.verdict == "disagree"})
