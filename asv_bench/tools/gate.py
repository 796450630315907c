"""Does a change make any op cost more? `python -m asv_bench.tools.gate [BASE]`.

It compares the checkout with the commit BASE, main by default. Calls, arrays and bytes are the same on every
machine, so a difference is a fact about the code. The exit status is 1 where one of them has grown by more
than MAX_GROWTH. An intended growth passes if a commit message since BASE explains it in a line such as

    Costs: layer_norm backward, which recomputes what it no longer stores

Both commits run under this interpreter and its NumPy, with the benchmarks of the checkout.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from asv_bench.workloads.ops_and_backends import ROOT

# As in `asv continuous`. A single array or call is a larger growth of the smallest costs.
MAX_GROWTH = 1.1

Costs = dict[str, int]


def measure_costs_of_source(source: Path) -> Costs:
    """Return the costs of the gradspec in a source tree, as `measuring/op_costs.py` prints them."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(source / "src"), str(ROOT)]),
        "PYTHONSAFEPATH": "1",
    }
    output = _run_command(sys.executable, "-m", "asv_bench.measuring.op_costs", env=environment)
    return dict(json.loads(output))


def measure_costs_of_commit(commit: str) -> Costs:
    """Return the costs of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        return measure_costs_of_source(Path(folder))


def find_grown_costs(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """Return the names of the costs that grew by more than MAX_GROWTH; costs of new ops are left out."""
    return [name for name in after if name in before and after[name] > MAX_GROWTH * before[name]]


def is_explained(cost_name: str, messages: str) -> bool:
    """Return whether a line "Costs: OP DIRECTION..." of the commit messages speaks of this cost."""
    op, direction, _ = cost_name.split()
    return re.search(rf"^Costs: {re.escape(op)} {direction}\b", messages, re.MULTILINE) is not None


def _run_command(*command: str, env: Mapping[str, str] | None = None) -> str:
    process = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}:\n{process.stderr}")
    return process.stdout


def find_base_commit(branch_name: str) -> str:
    """Return the last commit that the checkout shares with a branch, local or at origin.

    Where that is the checkout itself, it is the commit before.
    """
    for branch in (branch_name, f"origin/{branch_name}"):
        if not _command_fails("git", "rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}"):
            base = _run_command("git", "merge-base", branch, "HEAD").strip()
            return base if base != _run_command("git", "rev-parse", "HEAD").strip() else f"{base}^"
    sys.exit(f"there is no commit {branch_name!r} to compare with; name one: make gate BASE=...")


def _command_fails(*command: str) -> bool:
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0


def main() -> int:
    """Print what grew; return 1 where something grew that no commit message explains."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "base", nargs="?", default="main", help="the commit to compare with (default: %(default)s)"
    )
    base = find_base_commit(parser.parse_args().base)
    before, after = measure_costs_of_commit(base), measure_costs_of_source(ROOT)
    messages = _run_command("git", "log", "--format=%B", f"{base}..HEAD")
    table = Table("cost", base[:9], "now", "", title="costs that grew")
    grown_costs = find_grown_costs(before, after)
    for name in grown_costs:
        growth = f"[red]{after[name] / max(before[name], 1):.2f}[/red]"
        note = "explained" if is_explained(name, messages) else growth
        table.add_row(name, f"{before[name]:,}", f"{after[name]:,}", note)
    nothing = f"no cost grew by more than {MAX_GROWTH:g} since {base[:9]}: {len(after)} compared"
    Console().print(table if grown_costs else nothing)
    return int(not all(is_explained(name, messages) for name in grown_costs))


if __name__ == "__main__":
    sys.exit(main())
