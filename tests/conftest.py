"""What a machine cannot run is skipped with its reason, unless it is required."""

import os

import pytest


def pytest_addoption(parser):
    parser.addoption("--require", default="", help="comma-separated parts that must be there: kafka, cluster")
    parser.addoption("--chaos-minutes", type=float, default=0, help="how long the chaos runs; half a minute without")
    parser.addoption("--chaos-seed", type=int, help="repeat the chaos run of this seed")


def pytest_collection_modifyitems(config, items):
    """Give a chaos run the time it is asked to take."""
    minutes = config.getoption("--chaos-minutes")
    for item in items if minutes else ():
        if item.path.name == "test_chaos.py":
            item.add_marker(pytest.mark.timeout(minutes * 60 + 600))


@pytest.fixture(scope="session")
def lacking(request):
    """Skip a test whose part is not to be had here; fail it when the part is required."""
    required = {*request.config.getoption("--require").split(","), *os.environ.get("EVENKEEL_REQUIRE", "").split(",")}

    def lacking(part, reason):
        if part in required:
            pytest.fail(f"{part} is required and cannot be had: {reason}", pytrace=False)
        pytest.skip(f"{part}: {reason}")

    return lacking
