"""What a process reads from its environment: typed, read once, refused as a whole when a key is wrong.

Every variable starts with `EVENTING_`; a service adds its own class and prefix with `ServiceSettings`.
Values may also come as files named like the variables, in lower case, below `EVENTING_SECRETS_DIR`.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from eventing.errors import Misconfigured

SECRETS_DIR = "EVENTING_SECRETS_DIR"


class ServiceSettings(BaseSettings):
    """Settings under one prefix; an unknown variable with that prefix is an error."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, **overrides: Any) -> Self:
        """Read and validate the environment.

        Args:
            overrides: values that win over the environment (tests, command line).

        Raises:
            Misconfigured: naming every wrong or unknown variable and its remedy.
        """
        prefix = cls.model_config["env_prefix"]
        known = {f"{prefix}{name}".upper() for name in cls.model_fields} | {SECRETS_DIR}
        if unknown := sorted(n for n in os.environ if n.startswith(prefix) and n.upper() not in known):
            raise Misconfigured(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        try:
            return cls(_secrets_dir=_secrets_dir(), **overrides)
        except ValidationError as error:
            lines = [f"{prefix}{e['loc'][0]}".upper() + f": {e['msg']}" for e in error.errors()]
            raise Misconfigured("; ".join(lines)) from None


def _secrets_dir() -> Path | None:
    directory = os.environ.get(SECRETS_DIR)
    if directory and not Path(directory).is_dir():
        raise Misconfigured(f"{SECRETS_DIR} names {directory}, which is not a directory; mount the Secret there")
    return Path(directory) if directory else None


class Settings(ServiceSettings):
    """Settings of every process; `EVENTING_KAFKA_BOOTSTRAP` sets `kafka_bootstrap`, and so on."""

    model_config = SettingsConfigDict(env_prefix="EVENTING_")

    service: str = Field("eventing", min_length=1, description="Name in traces, logs and `ce_source`.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal.")

    kafka_bootstrap: str = Field("localhost:9092", description="Comma-separated host:port list.")
    kafka_client_id: str = Field("", description="Defaults to the service's name.")
    kafka_request_timeout: PositiveFloat = Field(10.0, description="Seconds a single request may take.")

    database_url: str = Field("", repr=False, description="postgresql:// URL; required where a database is used.")
    database_pool: PositiveInt = Field(10, description="Connections this process may open.")
    database_timeout: PositiveFloat = Field(10.0, description="Seconds to wait for a connection or a statement.")
    database_pooler: bool = Field(
        default=False, description="True behind PgBouncer in transaction mode: no prepared statements."
    )

    cache_url: str = Field("", repr=False, description="valkey:// or redis:// URL; required where a cache is used.")
    cache_timeout: PositiveFloat = Field(0.25, description="Seconds before a cache that is silent counts as gone.")

    http_host: str = "127.0.0.1"
    http_port: int = Field(8000, ge=0, le=65535, description="API, probes and metrics; 0 picks a free port.")
    shutdown_timeout: PositiveFloat = Field(25.0, description="Seconds from SIGTERM to exit, at most.")

    consumer_concurrency: int = Field(100, ge=1, le=10_000, description="Handlers under way at once.")
    consumer_max_records: PositiveInt = Field(5_000, description="Records held in memory, over all partitions.")
    consumer_max_bytes: PositiveInt = Field(64 << 20, description="Bytes of records held in memory.")
    consumer_drain_timeout: PositiveFloat = Field(15.0, description="Seconds a rebalance waits for handlers.")
    consumer_instance_id: str = Field(
        "",
        description="Fixed identity of this member, unique in its group: a quick restart keeps its place.",
    )
    consumer_session_timeout: PositiveFloat = Field(10.0, description="Seconds of silence before the group goes on.")
    consumer_attempts: PositiveInt = Field(5, description="Attempts before an event is dead-lettered.")
    consumer_backoff_initial: PositiveFloat = Field(0.5, description="Seconds; doubled for each attempt, with jitter.")
    consumer_backoff_max: PositiveFloat = Field(60.0, description="Seconds; ceiling of the backoff.")
    consumer_breaker_share: float = Field(
        0.2, gt=0, le=1, description="Part of the last 100 records that may be dead-lettered; 1 turns the rule off."
    )
    consumer_breaker_row: PositiveInt = Field(10, description="Distinct records dead-lettered in a row: too many.")
    inbox_retention_days: PositiveInt = Field(14, description="Days a duplicate is recognised.")

    relay_lease: PositiveFloat = Field(10.0, description="Seconds a relay owns its buckets without renewal.")
    relay_batch: int = Field(2_000, ge=1, le=50_000, description="Rows read at once, at most.")
    relay_poll_max: PositiveFloat = Field(1.0, description="Seconds between polls of an idle outbox.")

    trace_retries: Literal["link", "continue"] = Field("link", description="How a retry relates to its trace.")


@cache
def settings() -> Settings:
    """Return the settings of this process, read once.

    Raises:
        Misconfigured: see `ServiceSettings.read`.
    """
    return Settings.read()
