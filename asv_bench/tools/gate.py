"""Does a change make any op cost more? `python -m asv_bench.tools.gate [BASE]` compares the checkout with a commit, main by default.

Calls, arrays and bytes are the same on every machine, so a difference is a fact about the code; status 1 where one of
them has grown by more than GROWTH. A growth that is meant is explained in a commit message since BASE, in a line such as

    Costs: layer_norm backward, which recomputes what it no longer stores

and is then let pass. Both commits run under the interpreter and the NumPy of this one, with the benchmarks of the checkout.
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

MAX_GROWTH = 1.1  # as in `asv continuous`; the smallest costs grow by more with a single array or call

Costs = dict[str, int]


def measure_costs_of_source(source: Path) -> Costs:
    """The costs of the gradspec in a source tree, as `counted` prints them."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(source / "src"), str(ROOT)]),
        "PYTHONSAFEPATH": "1",
    }
    return dict(
        json.loads(_run_command(sys.executable, "-m", "asv_bench.measuring.op_costs", env=environment))
    )


def measure_costs_of_commit(commit: str) -> Costs:
    """The costs of a commit."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with TemporaryDirectory() as folder, tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        return measure_costs_of_source(Path(folder))


def find_grown_costs(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """The costs that grew by more than GROWTH; those of ops that are new did not."""
    return [what for what in after if what in before and after[what] > MAX_GROWTH * before[what]]


def is_explained(cost_name: str, messages: str) -> bool:
    """Whether a line "Costs: OP DIRECTION..." of the commit messages speaks of this cost."""
    op, direction, _ = cost_name.split()
    return re.search(rf"^Costs: {re.escape(op)} {direction}\b", messages, re.MULTILINE) is not None


def _run_command(*command: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout


def find_base_commit(branch_name: str) -> str:
    """The commit in which the checkout and the branch of this name, here or at the origin, last agreed; on it, the one before."""
    for branch in (branch_name, f"origin/{branch_name}"):
        if not _command_fails("git", "rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}"):
            base = _run_command("git", "merge-base", branch, "HEAD").strip()
            return base if base != _run_command("git", "rev-parse", "HEAD").strip() else f"{base}^"
    sys.exit(f"there is no commit {branch_name!r} to compare with; name one: make gate BASE=...")


def _command_fails(*command: str) -> bool:
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode != 0


def main() -> int:
    """Print what grew; 1 where something grew that no commit message explains."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "base", nargs="?", default="main", help="the commit to compare with (default: %(default)s)"
    )
    base = find_base_commit(parser.parse_args().base)
    before, after = measure_costs_of_commit(base), measure_costs_of_source(ROOT)
    messages = _run_command("git", "log", "--format=%B", f"{base}..HEAD")
    table = Table("cost", base[:9], "now", "", title="costs that grew")
    found = find_grown_costs(before, after)
    for what in found:
        note = (
            "explained"
            if is_explained(what, messages)
            else f"[red]{after[what] / max(before[what], 1):.2f}[/red]"
        )
        table.add_row(what, f"{before[what]:,}", f"{after[what]:,}", note)
    Console().print(
        table
        if found
        else f"no cost grew by more than {MAX_GROWTH:g} since {base[:9]}: {len(after)} compared"
    )
    return int(not all(is_explained(what, messages) for what in found))


if __name__ == "__main__":
    sys.exit(main())
