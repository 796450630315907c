"""Writing the files of a run: each is whole or absent, and what cannot be written is told in a line."""

from pathlib import Path
from tempfile import NamedTemporaryFile

from gradspec.properties.judging.error_descriptions import make_printable


def write_atomically(path: Path, text: str) -> None:
    """Write a file by renaming a complete temporary file to its path; nothing is left of one that is not.

    Raises:
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a device, or a folder, which is an error
        path.write_text(text, encoding="utf-8")
        return
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(0o644)  # only its author can read a temporary file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def describe_unwritten(what: str, error: OSError) -> str:
    """Return one line: what could not be written, and why.

    It does not name the file, which may be a temporary one.
    """
    is_no_folder = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is in the place of a folder" if is_no_folder else error.strerror or str(error)
    return make_printable(f"{what} could not be written: {why}")
