"""Benchmarks for asv: how fast, how exact and how frugal every op, backend and program is.

The benchmarks themselves are the modules at the top of this folder, where asv finds them: `ops`, `programs`,
`tape`, `accuracy`, `costs` and `harness`. asv keys its results by these names, so a module that moves loses
its history.

The folders serve them:

    measuring/  what measures: clocks, counters of calls and bytes, errors, runs of pytest
    workloads/  what is measured: ops, backends, calls of ops, programs, planted faults
    tools/      commands: `python -m asv_bench.tools.gate`, `.ratios`, `.on_gpu`
    pages/      a page with plots of all results: `python -m asv_bench.pages.make`

asv imports everything that it finds here: each module at the top, and each folder that has an `__init__.py`.
So no function in measuring/ or workloads/ may have a name that asv takes for a benchmark (`time_...`,
`track_...`), and tools/ and pages/ have no `__init__.py`: their libraries are not installed where the
benchmarks run.

asv runs the modules of the working tree on whatever commit of gradspec it has installed. What measures,
`gradspec.timing`, is the working tree's, too. What only some commits have is imported where it is needed and
is n/a in the others; what has another name there comes from `measuring/any_commit.py`.
"""

import importlib.util
import sys
from pathlib import Path

import gradspec


def _import_timing_of_working_tree() -> None:
    """Import `gradspec.timing` from the working tree, not from the commit, which may have none."""
    file = Path(__file__).parents[1] / "src" / "gradspec" / "timing" / "__init__.py"
    spec = importlib.util.spec_from_file_location("gradspec.timing", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gradspec.timing"] = gradspec.timing = module  # type: ignore[attr-defined]
    spec.loader.exec_module(module)


if "gradspec.timing" not in sys.modules:
    _import_timing_of_working_tree()
