"""The checks a run makes, and what it found."""

from dataclasses import asdict, dataclass

from rich.console import Console


@dataclass(frozen=True)
class Check:
    """One statement about the run, and whether it held."""

    name: str
    ok: bool
    detail: str


class Checks:
    """Collects checks and says each one as it is made."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.made: list[Check] = []

    def equal(self, name: str, found: object, expected: object) -> bool:
        """Check that two values are equal; both are in the detail when they are not."""
        same = found == expected
        return self.that(name, same, str(found) if same else f"{found}, expected {expected}")

    def that(self, name: str, ok: object, detail: object = "") -> bool:
        """Check that something holds."""
        check = Check(name, bool(ok), str(detail))
        self.made.append(check)
        mark = "[green]✓[/green]" if check.ok else "[red]✗[/red]"
        self._console.print(
            f"  {mark} {name}" + (f" [dim]({check.detail})[/dim]" if check.detail else ""), highlight=False
        )
        return check.ok

    @property
    def failed(self) -> list[Check]:
        """Those that did not hold."""
        return [check for check in self.made if not check.ok]

    def facts(self) -> list[dict[str, object]]:
        """Return them for `--json`."""
        return [asdict(check) for check in self.made]
