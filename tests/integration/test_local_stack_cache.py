"""A cache entry is whole or not there, whoever else is at work."""

import asyncio
from pathlib import Path

import pytest

from workbench.cache import cached
from workbench.home import Home


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "evenkeel"


class Maker:
    """Makes an entry, and counts how often it had to."""

    def __init__(self) -> None:
        self.calls = 0

    # Called by the code under test.
    async def __call__(self, directory: Path) -> None:
        self.calls += 1
        (directory / "sub").mkdir()
        (directory / "sub" / "file").write_text("content")


async def test_an_entry_is_made_once(root: Path):
    make = Maker()
    for _ in range(2):
        async with Home.open() as home:
            entry = await cached(home, "thing-1", make)
            assert entry == root / "thing-1"
            assert (entry / "sub" / "file").read_text() == "content"
    assert make.calls == 1


async def test_an_entry_with_a_missing_file_is_made_again(root: Path):
    make = Maker()
    for _ in range(2):
        async with Home.open() as home:
            entry = await cached(home, "thing-1", make)
        (entry / "sub" / "file").unlink()
    assert make.calls == 2


async def test_a_failed_entry_is_not_there(root: Path):
    async def fail(directory: Path) -> None:
        (directory / "half").write_text("")
        raise OSError("no network")

    async with Home.open() as home:
        with pytest.raises(OSError, match="no network"):
            await cached(home, "thing-1", fail)
    assert not root.exists()


async def test_without_a_usable_cache_an_entry_lives_in_the_home(root: Path):
    root.write_text("a file where the folder should be")
    make = Maker()
    async with Home.open() as home:
        for _ in range(2):
            entry = await cached(home, "thing-1", make)
            assert entry.is_relative_to(home.path)
            assert (entry / "sub" / "file").read_text() == "content"
    assert make.calls == 1


async def test_concurrent_runs_agree_on_one_entry(root: Path):
    all_make = asyncio.Barrier(4)

    async def make(directory: Path) -> None:
        (directory / "file").write_text("content")
        await all_make.wait()

    async def one_run() -> Path:
        async with Home.open() as home:
            return await cached(home, "thing-1", make)

    assert set(await asyncio.gather(*(one_run() for _ in range(4)))) == {root / "thing-1"}
    assert [path.name for path in root.iterdir()] == ["thing-1"]
