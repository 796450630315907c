"""Addresses of ops: two ops may have one name, and what a backend's keys mean; each error is one line."""

import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradspec.properties.judging.process_server  # noqa: F401  ops are pickled by address
from gradspec.backends import Backend, load
from gradspec.backends.addresses import find_op
from gradspec.properties.cases.case import Case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS, Tensor

pytestmark = pytest.mark.usefixtures("restored_registry")

OWN_TANH = """
import numpy as np
from gradspec import Array, Real, op

@op("()->()")
def tanh(x: Real) -> Array:  # twice the one of the spec
    return 2 * np.tanh(x)

@op("()->()")
def cube(x: Real) -> Array:
    return x * x * x
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path; what is imported from it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        del sys.modules[name]


def write_module(folder: Path, name: str, source: str) -> None:
    (folder / f"{name}.py").write_text(source, encoding="utf-8")


def import_module(folder: Path, name: str, source: str) -> ModuleType:
    write_module(folder, name, source)
    return __import__(name)


def test_an_own_op_may_have_a_name_of_the_spec(folder: Path) -> None:
    own = import_module(folder, "own_tanh", OWN_TANH).tanh
    assert (own.name, own.address) == ("tanh", "own_tanh:tanh")
    assert find_op("own_tanh:tanh") is own
    assert find_op("tanh") is OPS["tanh"] is not own
    assert pickle.loads(pickle.dumps([own, OPS["tanh"]])) == [own, OPS["tanh"]]
    x = Tensor(np.ones(2))
    assert OPS["tanh"](x).numpy()[0] == np.tanh(1.0)
    assert isinstance(np.tanh(x), Tensor)
    assert own(x).numpy()[0] == 2 * np.tanh(1.0)


def test_each_is_judged_by_its_own_declaration(folder: Path) -> None:
    own = import_module(folder, "own_tanh", OWN_TANH).tanh
    backend = replace(load("numpy"), name="both", ops={own: own, "tanh": OPS["tanh"]})
    swapped = replace(load("numpy"), name="swapped", ops={own: OPS["tanh"], "tanh": own})
    for address in ("own_tanh:tanh", "tanh"):
        case = Case.of(address, "float64", [[0.5, 2.0]], {}, [1.0, -1.0])
        assert eval(case.as_python(), {"Case": Case}).op is OPS[address]
        for law in (value_agrees, every_gradient_agrees):
            assert law(backend, case).verdict == "agree"
            assert law(swapped, case).verdict == "disagree"


def test_a_module_is_imported_for_its_op(folder: Path) -> None:
    write_module(folder, "not_imported_yet", OWN_TANH)
    assert find_op("not_imported_yet:cube").name == "cube"
    assert Case.of("not_imported_yet:cube", "float64", [2.0], {}, 1.0).op.address == "not_imported_yet:cube"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            "no_module:cube",
            "no op 'no_module:cube': there is no module 'no_module'; is its folder on PYTHONPATH?",
        ),
        ("needy:cube", "no op 'needy:cube': there is no module 'nowhere', which needy imports"),
        ("broken:cube", "no op 'broken:cube': importing broken raised ZeroDivisionError: division by zero"),
        ("ending:cube", "no op 'ending:cube': importing ending raised SystemExit: 3"),
        ("own:cub", "no op 'own:cub': module own does not declare it; did you mean 'cube'?"),
        ("empty:cube", "no op 'empty:cube': module empty does not declare it; it declares none"),
        ("cross_entropi", "no op 'cross_entropi'; did you mean 'cross_entropy'?"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(folder: Path, address: str, message: str) -> None:
    write_module(folder, "needy", "import nowhere")
    write_module(folder, "broken", "1 / 0")
    write_module(folder, "ending", "import sys; sys.exit(3)")
    write_module(folder, "own", OWN_TANH)
    write_module(folder, "empty", "")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        find_op(address)
    assert str(caught.value) == message


KERNELS = """
from gradspec.backends import load
from gradspec.reference import OPS
{imports}

def make(**more):
    return load("numpy").with_ops(name="mine", tanh=OPS["tanh"], exp=OPS["exp"], **more)

known = {{"tanh": "all of it", "exp: value agrees": "a little"}}
backend = make(known=known, declines={{"tanh[float64]": "now and then"}})
"""


def list_keys(backend: Backend) -> list[str]:
    """Return the op of every key: of the table, of `known` and of `declines`."""
    return [*backend.ops, *(d.op for d in backend.deviations), *(d.op for d in backend.declared_declines)]


@pytest.mark.parametrize("imports", ["from own_tanh import tanh", "import own_tanh; another = own_tanh.tanh"])
def test_a_name_means_the_op_of_the_module_that_makes_the_backend(folder: Path, imports: str) -> None:
    write_module(folder, "own_tanh", OWN_TANH)
    kernels = import_module(folder, "kernels", KERNELS.format(imports=imports))
    own = "own_tanh:tanh"
    assert list_keys(kernels.backend) == list_keys(load("kernels:backend")) == [own, "exp", own, "exp", own]
    assert list_keys(replace(kernels.backend, name="again")) == list_keys(kernels.backend)


def test_a_name_means_the_op_of_the_spec_elsewhere(folder: Path) -> None:
    import_module(folder, "own_tanh", OWN_TANH)
    kernels = import_module(folder, "kernels", KERNELS.format(imports=""))
    assert list_keys(kernels.backend) == ["tanh", "exp", "tanh", "exp", "tanh"]
    assert "own_tanh:tanh" not in load("numpy").ops


def test_a_name_that_the_spec_has_not_got_means_the_op_declared_last(folder: Path) -> None:
    functions: dict[Any, Any] = {"cube": OPS["tanh"]}
    with pytest.raises(ValueError, match="backend 'mine': there is no op 'cube', unless you declare it by"):
        replace(load("numpy"), name="mine", ops=functions)
    for name in ("first", "second"):
        import_module(folder, name, OWN_TANH)
        assert [*replace(load("numpy"), name="mine", ops=functions).ops] == [f"{name}:cube"]
    assert [*load("numpy").with_ops({"first:cube": OPS["tanh"]}, name="mine").ops] == ["first:cube"]


def test_a_module_that_runs_again_declares_the_same_ops(folder: Path) -> None:
    first = import_module(folder, "reloaded", f"# a line\n{OWN_TANH}").cube
    for source in (OWN_TANH, OWN_TANH.replace("x * x * x", "x * x")):
        del sys.modules["reloaded"]
        (folder / "__pycache__" / f"reloaded.{sys.implementation.cache_tag}.pyc").unlink(missing_ok=True)
        write_module(folder, "reloaded", source)
        if source == OWN_TANH:
            assert find_op("reloaded:cube") is first
            assert import_module(folder, "reloaded", source).cube is OPS["reloaded:cube"]
        else:
            with pytest.raises(ValueError, match="'reloaded:cube' is declared twice, and not alike"):
                import_module(folder, "reloaded", source)
