"""What a benchmark runs, and in which order."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from typer import BadParameter

from workbench.bench.shapes import RUNNERS, SHAPES, Shape


@dataclass(frozen=True)
class Plan:
    """What to run: shapes with the runners that were asked for, and how many times."""

    shapes: list[Shape]
    runs: int

    @classmethod
    def of(cls, shapes: Collection[str], runners: Collection[str], runs: int, *, quick: bool) -> "Plan":
        """Return the plan for these shapes and runners, by name.

        Raises:
            typer.BadParameter: nothing has that name, or no such runner takes part in such a shape.
        """
        _known("shape", shapes, SHAPES)
        _known("runner", runners, RUNNERS)
        chosen = [SHAPES[name].only(runners) for name in SHAPES if name in shapes]
        chosen = [shape.quick() if quick else shape for shape in chosen if shape.records]
        if not chosen:
            raise BadParameter(f"none of {', '.join(runners)} takes part in {', '.join(shapes)}")
        return cls(chosen, runs)

    @property
    def stores(self) -> bool:
        """True when a shape needs a database."""
        return any(shape.connections for shape in self.shapes)

    def uses(self, runner: str) -> bool:
        """Tell whether a runner takes part."""
        return any(runner in shape.records for shape in self.shapes)


def _known(what: str, names: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise BadParameter(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")


def interleaved(runners: list[str], times: int) -> Iterator[tuple[int, str]]:
    """Return the turns A B, B A, A B …: what drifts on the machine meets everybody."""
    for turn in range(times):
        for runner in runners if turn % 2 == 0 else reversed(runners):
            yield turn, runner
