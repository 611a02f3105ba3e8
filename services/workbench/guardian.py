"""The backstop: ends what a run started, should the run die before it could.

Run as a script with the path of the home as argument and a pipe on standard input, to which `Home`
writes one line per fact::

    dir PATH            a directory to delete
    pid NUMBER SIGNAL   a child, and the signal it stops on
    gone NUMBER         that child has ended
    done                everything is cleaned up: leave

The end of the pipe without `done` means that the run is dead, by whatever means, and the children and
directories still on the list are ours to remove. Only the standard library is imported, so the script
starts in 20 ms and needs no virtual environment.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TextIO

# Every child inherits this variable. It finds a child that was started in the instant before its number
# could be written to the pipe, and grandchildren which left the family.
MARK = "EVENKEEL_HOME"

# Seconds between the polite signal and SIGKILL. PostgreSQL uses them to give back its System V segment.
GRACE = 3.0


class Origin(NamedTuple):
    """Where a process comes from. Its number may be reused, a number with a start time is not."""

    parent: int
    started: str


class Child(NamedTuple):
    """A child of the run; its parent changes when the run dies, its start time does not."""

    started: str
    stop_signal: int


def census() -> dict[int, Origin]:
    """Return every process of the machine with its parent and start time."""
    if Path("/proc/self/stat").exists():
        return _census_of_proc()
    return _census_of_ps()


def _census_of_proc() -> dict[int, Origin]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended while we looked
            # The name in parentheses may hold spaces: count the fields after it.
            fields = stat.read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                found[int(stat.parent.name)] = Origin(parent=int(fields[1]), started=fields[19])
    return found


def _census_of_ps() -> dict[int, Origin]:
    columns = "pid=,ppid=,stat=,lstart="
    listing = subprocess.run(["ps", "-axo", columns], capture_output=True, text=True, check=True).stdout
    rows = (line.split(maxsplit=3) for line in listing.splitlines())
    return {int(pid): Origin(int(parent), when) for pid, parent, state, when in rows if "Z" not in state}


def family(pid: int) -> set[int]:
    """Return `pid` and its descendants, those which left its process group included."""
    processes = census()
    members, size = {pid}, 0
    while size != len(members):
        size = len(members)
        members |= {child for child, origin in processes.items() if origin.parent in members}
    return members & set(processes)


def send(number: int, pids: Iterable[int]) -> None:
    """Send a signal to processes; those which ended in between are skipped."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def marked(path: str) -> set[int]:
    """Return the processes which carry the mark of this home. Linux only; elsewhere none."""
    mark, found = f"{MARK}={path}".encode(), set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # ended, or not ours
            if mark in environment.read_bytes().split(b"\0"):
                found.add(int(environment.parent.name))
    return found - {os.getpid()}


class Guardian:
    """Follows the facts on the pipe, and acts on them when the pipe ends."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._children: dict[int, Child] = {}
        self._directories: list[str] = []

    def follow(self, pipe: TextIO) -> bool:
        """Read facts until the pipe ends; return whether the run said it was done."""
        for line in pipe:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "done":
                return True
            self._note(word, rest)
        return False

    def _note(self, word: str, rest: str) -> None:
        if word == "dir":
            self._directories.append(rest)
        elif word == "pid":
            pid, number = map(int, rest.split())
            if origin := census().get(pid):
                self._children[pid] = Child(origin.started, number)
        elif word == "gone":
            self._children.pop(int(rest), None)

    def clean(self) -> None:
        """End the children still there, politely for `GRACE` seconds, then delete the directories."""
        for pause in (0, 0.1, 0.5):  # a child that was being forked appears a moment later
            time.sleep(pause)
            self._adopt_marked()
            self._stop_politely()
        for path in self._directories:
            shutil.rmtree(path, ignore_errors=True)

    def _alive_children(self) -> dict[int, str]:
        return _alive({pid: child.started for pid, child in self._children.items()})

    def _adopt_marked(self) -> None:
        processes = census()
        unnamed = marked(self._home) & set(processes) - set(self._alive_children())
        self._children.update({pid: Child(processes[pid].started, signal.SIGTERM) for pid in unnamed})

    def _stop_politely(self) -> None:
        children = self._alive_children()
        relatives = _relatives(children)
        for pid in children:
            send(self._children[pid].stop_signal, [pid])
        send(signal.SIGCONT, relatives)  # a frozen process acts on no signal
        deadline = time.monotonic() + GRACE
        while _alive(children) and time.monotonic() < deadline:
            time.sleep(0.02)
        send(signal.SIGKILL, _alive(relatives))


def _relatives(pids: Iterable[int]) -> dict[int, str]:
    processes = census()
    members = set[int]().union(*map(family, pids))
    return {pid: processes[pid].started for pid in members & set(processes)}


def _alive(started: Mapping[int, str]) -> dict[int, str]:
    """Return those of the processes, by number and start time, which have not ended."""
    processes = census()
    return {pid: when for pid, when in started.items() if pid in processes and processes[pid].started == when}


def main() -> None:
    """Guard until the pipe on standard input ends."""
    # Ctrl-C and a closed terminal are meant for the run; we outlive it to clean up after it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guardian = Guardian(home=sys.argv[1])
    if not guardian.follow(sys.stdin):
        guardian.clean()


if __name__ == "__main__":
    main()
