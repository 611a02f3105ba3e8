"""What a machine cannot run is skipped with its reason, unless it is required."""

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--require", default="", help="comma-separated parts that must be there: kafka, cluster")
    parser.addoption("--schedules", type=int, default=10_000, help="schedules of the simulation that are run")
    parser.addoption("--schedule-seed", type=int, default=0, help="seed of the first of them")


@pytest.fixture(scope="session")
def lacking(request):
    """Skip a test whose part is not to be had here; fail it when the part is required."""
    required = {*request.config.getoption("--require").split(","), *os.environ.get("EVENKEEL_REQUIRE", "").split(",")}

    def lacking(part, reason):
        if part in required:
            pytest.fail(f"{part} is required and cannot be had: {reason}", pytrace=False)
        pytest.skip(f"{part}: {reason}")

    return lacking
