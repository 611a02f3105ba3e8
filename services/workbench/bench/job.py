"""What one runner process has to do; it travels in the environment."""

import asyncio
import os
import random
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt

VARIABLE = "BENCH_JOB"


class Job(BaseModel):
    """One run of one runner.

    `pause` are the seconds a handler takes, at least and at most; (0, 0) is a no-op. `result` is where the
    runner writes what it measured; it then waits to be stopped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap: str
    topic: str
    group: str
    records: PositiveInt
    keys: PositiveInt
    pause: tuple[float, float]
    result: Path
    concurrency: PositiveInt = 100
    connections: PositiveInt = 16
    database: str = ""

    @classmethod
    def read(cls) -> "Job":
        """Read the job of this process.

        Raises:
            KeyError: this process was not started by `bench`.
            pydantic.ValidationError: the job is none.
        """
        return cls.model_validate_json(os.environ[VARIABLE])

    async def work(self) -> None:
        """Take as long as a handler of this shape takes."""
        least, most = self.pause
        if most:
            await asyncio.sleep(random.uniform(least, most))  # noqa: S311  # spreads durations, protects nothing
