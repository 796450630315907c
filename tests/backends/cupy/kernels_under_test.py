"""The stand-ins for CuPy and CUDA, for the tests of this folder: without CuPy those are skipped."""

import importlib

import pytest

pytest.importorskip("cupy", reason="CuPy is not installed: the extra `cupy` has it, where there are wheels")
fake_cupy = importlib.import_module("tests.stand_ins.fake_cupy")
cupy_backends = importlib.import_module("tests.stand_ins.backends_on_fake_cupy")
emulation = importlib.import_module("tests.stand_ins.cuda_emulation")
with cupy_backends.replace_cupy():
    launch = importlib.import_module("gradspec.backends.cupy.launch")
    rules = importlib.import_module("gradspec.backends.cupy.rules")

needs_compiler = pytest.mark.skipif(
    emulation.COMPILER is None, reason="there is no g++ to run the kernels with"
)
