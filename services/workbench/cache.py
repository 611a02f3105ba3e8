"""What is slow to make and the same in every run: downloaded jars, an empty database.

The cache is an optimisation and nothing else. An entry is made in the home of the run, and published by
one rename, so that concurrent runs, an interrupted run or a read-only disk never leave half an entry.
"""

import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from workbench.home import Home

_COMPLETE = ".complete"


def cache_directory() -> Path:
    """Return our folder in the user's cache directory (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evenkeel"


async def cached(home: Home, name: str, make: Callable[[Path], Awaitable[None]]) -> Path:
    """Return the directory `name` of the cache, made by `make` when it is not there.

    Args:
        home: The run; what is made lives there should the cache be unusable.
        name: Names the content with its version: an entry is never updated.
        make: Fills an empty directory.
    """
    if entry := find(name):
        return entry
    async with home.making:
        fresh = home.directory("made") / name
        if _is_complete(fresh):
            return fresh
        fresh.mkdir()
        await make(fresh)
        return publish(home, fresh, name)


def find(name: str) -> Path | None:
    """Return the directory `name` of the cache, None when it is not there or not whole."""
    entry = cache_directory() / name
    return entry if _is_complete(entry) else None


def publish(home: Home, fresh: Path, name: str) -> Path:
    """Copy a directory into the cache; return the entry, or `fresh` when the cache is unusable."""
    (fresh / _COMPLETE).write_text(_contents(fresh))
    # Not in a thread: one that still copies when the run is cancelled would fight with the clean-up.
    entry = cache_directory() / name
    sibling = entry.with_name(f".{entry.name}-{secrets.token_hex(4)}")
    home.discard(sibling)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(fresh, sibling)
        if entry.exists() and not _is_complete(entry):
            shutil.rmtree(entry)  # somebody deleted files of it
        sibling.rename(entry)
    except OSError:  # another run was first, or the disk is full or read-only
        shutil.rmtree(sibling, ignore_errors=True)
    return entry if _is_complete(entry) else fresh


def _is_complete(entry: Path) -> bool:
    listing = entry / _COMPLETE
    return listing.exists() and listing.read_text() == _contents(entry)


def _contents(entry: Path) -> str:
    files = sorted(path for path in entry.rglob("*") if path.is_file() and path.name != _COMPLETE)
    return "".join(f"{path.stat().st_size} {path.relative_to(entry)}\n" for path in files)
