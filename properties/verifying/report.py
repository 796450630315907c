"""What `verify` returns of a function that is right, and says of one that is not."""

from dataclasses import dataclass
from pathlib import Path

from gradspec.properties.running.failure import LawViolation, format_command
from gradspec.properties.running.files import describe_unwritten, write_atomically
from gradspec.properties.running.tally import Tally


@dataclass(frozen=True)
class Report:
    """What was judged of a function that broke no law; as text it is a few lines to read.

    Attributes:
        op: The address of the op that it was judged by.
        backend: The name of the backend whose arrays it takes.
        dtypes: The dtypes it was tried in.
        laws: The laws it kept, as sentences.
        cases: How many cases were judged, each by one law.
        informative: The share of them that could have shown an error.
        declined: How many of them it declined.
        lossy: How many were only as right as a usual formula, which loses digits.
        loss: The largest error among these, where 1 is the largest that the stable formula allows.
        margin: The largest error of all, where 1 is the largest that is allowed; None if no numbers were
            compared.
        left_out: The laws, and what else, that it was not asked, each as "what: reason".
    """

    op: str
    backend: str
    dtypes: tuple[str, ...]
    laws: tuple[str, ...]
    cases: int
    informative: float
    declined: int
    lossy: int
    loss: float
    margin: float | None
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        """Return what was judged, in a few lines."""
        cases = f"{self.cases:,} cases by {len(self.laws)} laws"
        lines = [
            f"agrees with {self.op} on {self.backend} in {', '.join(self.dtypes)}",
            f"  {cases}; {self.informative:.0%} of the cases could have shown an error",
        ]
        if self.margin is not None:
            lines.append(f"  the largest error was {self.margin:.2f} of what is allowed")
        if self.lossy:
            lines.append(f"  lossy: {self.lossy:,} cases, by up to {self.loss:.2g} times what is allowed")
        if self.declined:
            lines.append(f"  declined: {self.declined:,} cases")
        for law, _, reason in (text.partition(": ") for text in self.left_out):
            lines.append(f"  not asked: {law} ({reason})")
        return "\n".join(lines)

    @classmethod
    def of(
        cls,
        op: str,
        backend: str,
        dtypes: tuple[str, ...],
        laws: tuple[str, ...],
        tally: Tally,
        left_out: tuple[str, ...],
    ) -> "Report":
        """Return the report of what was counted."""
        return cls(
            op=op,
            backend=backend,
            dtypes=dtypes,
            laws=laws,
            cases=tally.judged,
            informative=tally.informative / tally.judged if tally.judged else 0.0,
            declined=tally.declined,
            lossy=tally.lossy,
            loss=tally.loss,
            margin=tally.margin,
            left_out=left_out,
        )


def describe_failure(violation: LawViolation, folder: Path, no_script: str) -> str:
    """Return the text of a violation and where its files are, which are written first.

    Args:
        violation: The violation.
        folder: Where its script and its capsule go.
        no_script: Why it can have no script; "" if it can.
    """
    files = violation.format_files(folder)
    capsule, script = files
    try:
        write_atomically(capsule, files[capsule])
        if not no_script:
            write_atomically(script, files[script])
    except OSError as error:
        return f"{violation.as_text()}\n  {describe_unwritten('script and case', error)}"
    if no_script:
        return f"{violation.as_text()}\n  there is no script, since {no_script}; the case is in {capsule}"
    return f"{violation.as_text()}\n  reproduce: {format_command(script)}"
