"""Files that a command writes when it is done."""

import os
from pathlib import Path

import typer


def writable(path: Path | None) -> Path | None:
    """Refuse a file that cannot be written before the work is done, not after it.

    Raises:
        typer.BadParameter: it cannot.
    """
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written; name a file in a directory that is there")
    return path
