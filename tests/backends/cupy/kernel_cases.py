"""Cases for the kernels of the CuPy backend: rows, columns and tables, large and small."""

from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def make_case(
    name: str, dtype: str, *inputs: Any, layout: str = "C", cotangent: float | None = None, **keywords: Any
) -> Case:
    """Return a case with all its arrays in one layout.

    Args:
        name: The op.
        dtype: The dtype of all floating arrays.
        inputs: The arrays.
        layout: The layout of the arrays and of the cotangent.
        cotangent: The number that fills the cotangent; by default it is random.
        keywords: The keywords of the op.
    """
    shape = np.shape(OPS[name].rule(*map(np.asarray, inputs), **keywords)[0])
    g = normal(*shape, seed=9) if cotangent is None else np.full(shape, cotangent)
    return Case.of(name, dtype, inputs, keywords, g, (layout,) * (len(inputs) + 1))


def make_large_cases(dtype: str) -> list[Case]:
    """Return cases with rows, columns of several warps, and tables with several tiles and strips.

    Rows have several warps or odd lengths, are longer than a block can hold or more than there are blocks.
    """
    cases = []
    for n in (300, 513, 4100):
        x, targets = normal(3, n), np.arange(3) * (n // 3)
        cases += [
            make_case("softmax", dtype, x, axis=-1),
            make_case("log_softmax", dtype, x, axis=1),
            make_case("cross_entropy", dtype, x, targets, reduction="mean"),
            make_case("cross_entropy", dtype, x, targets, reduction="sum", cotangent=1),
            make_case("layer_norm", dtype, x, normal(n, seed=1), normal(n, seed=2)),
            make_case("tanh", dtype, x),
            make_case("divide", dtype, x, normal(3, n, seed=1) + 8),
            make_case("maximum", dtype, x, normal(n, seed=1)),
        ]
    planes, classes = normal(2, 75, 300), np.arange(600).reshape(2, 300) % 75
    cases += [
        make_case("layer_norm", dtype, normal(9, 2048), normal(2048, seed=1), normal(2048, seed=2)),
        make_case("softmax", dtype, normal(3, 40, 2), axis=1),
        make_case("softmax", dtype, planes, axis=1),
        make_case("softmax", dtype, normal(33, 17), axis=0),
        make_case("log_softmax", dtype, planes, axis=1),
        make_case("cross_entropy", dtype, planes, classes, reduction="none"),
        make_case("cross_entropy", dtype, planes, classes, reduction="mean", cotangent=1),
        make_case("multiply", dtype, normal(150, 1), normal(1, 300)),
        make_case("multiply", dtype, normal(150, 1), normal(1, 513)),
        make_case("multiply", dtype, normal(200, 33), normal(33)),
        make_case("add", dtype, normal(2, 200, 33), normal(2, 1, 33)),
        make_case("add", dtype, normal(2, 3, 1, 40), normal(1, 200, 1)),
        make_case("add", dtype, normal(3, 1500), normal(1, 1)),
        make_case("sum", dtype, normal(2, 200, 33), axis=(0, 2)),
        make_case("mean", dtype, normal(3, 2048)),
        make_case("linear", dtype, normal(130, 5), normal(7, 5), normal(7)),
    ]
    return cases


def make_small_cases(dtype: str) -> list[Case]:
    """Return cases with one row, one column or about the length of a warp, also off vector alignment."""
    cases = []
    for m, n in ((1, 1), (5, 1), (1, 31), (2, 33), (3, 8)):
        for layout in ("C", "offset"):
            x = normal(m, n)
            cases += [
                make_case("softmax", dtype, x, axis=-1, layout=layout),
                make_case("log_softmax", dtype, x, axis=-1, layout=layout),
                make_case("cross_entropy", dtype, x, np.arange(m) % n, reduction="none", layout=layout),
                make_case("cross_entropy", dtype, x, np.arange(m) % n, cotangent=1, layout=layout),
                make_case("layer_norm", dtype, x, normal(n, seed=1), normal(n, seed=2), layout=layout),
                make_case("tanh", dtype, x, layout=layout),
                make_case("multiply", dtype, normal(m, 1), normal(1, n), layout=layout),
                make_case("add", dtype, x, normal(n), layout=layout),
                make_case("pow", dtype, np.exp(x), normal(m, n, seed=1), layout=layout),
            ]
    return cases


def find_wrong_ops(backend: Backend, cases: list[Case]) -> list[str]:
    """Return the ops whose values or gradients the backend gets wrong."""
    laws = (value_agrees, every_gradient_agrees)
    judgements = [(c.op.name, judge_case(law, backend, c)) for c in cases for law in laws]
    return sorted({name for name, judgement in judgements if judgement.verdict == "disagree"})
