"""`uv run bench`: the product beside its peers, on real parts.

Each runner is a process of its own that imports only what it measures; so nothing is imported here.
"""


def main() -> None:
    """Run a benchmark; exit code 1 when a gate of a full run is missed."""
    from workbench.bench.cli import app  # noqa: PLC0415  # it would count as memory of every runner

    app()
