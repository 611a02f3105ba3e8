"""A `Filter` as options of a command: one option per field, and `--filter` for all of them as JSON."""

import inspect
import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Annotated, Any

import typer

from eventing.errors import Misconfigured
from eventing.letter_filter import Filter

_OPTIONS = {  # by field: the option and its metavar
    "ids": ("--id", "ID"),
    "keys": ("--key", "KEY"),
    "reasons": ("--reason", "REASON"),
    "errors": ("--error", "NAME"),
    "types": ("--type", "TYPE"),
    "headers": ("--header", "NAME=VALUE"),
    "since": ("--since", "TIME"),
    "until": ("--until", "TIME"),
    "partitions": ("--partition", "N"),
    "offsets": ("--offset", "N-N"),
    "origin_topics": ("--origin-topic", "TOPIC"),
    "origin_partitions": ("--origin-partition", "N"),
    "origin_offsets": ("--origin-offset", "N-N"),
}
_MANY = {"ids", "keys", "reasons", "errors", "types", "headers", "partitions", "origin_topics", "origin_partitions"}
_JSON = "as_json"


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a filter in place of its parameter `wanted`."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name != "wanted"]

    @wraps(command)
    def run(**given: Any) -> None:
        command(**{p.name: given[p.name] for p in own}, wanted=_filter(given))

    run.__signature__ = inspect.Signature([*own, *_parameters()])  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {p.name: p.annotation for p in run.__signature__.parameters.values()}  # type: ignore[attr-defined]
    return run


def _parameters() -> Iterable[inspect.Parameter]:
    for name, (option, metavar) in _OPTIONS.items():
        said = f"{Filter.model_fields[name].description}{' May be repeated: one must fit.' * (name in _MANY)}"
        info = typer.Option(option, metavar=metavar, help=said.replace("repeated: one must fit", _repeated(name)))
        yield _parameter(name, list[str] | None if name in _MANY else str | None, info)
    yield _parameter(_JSON, str | None, typer.Option("--filter", metavar="JSON", help="All of these, as JSON."))


def _repeated(name: str) -> str:
    return "repeated: all must fit" if name == "headers" else "repeated: one must fit"


def _parameter(name: str, kind: Any, info: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info])


def _filter(given: dict[str, Any]) -> Filter:
    """Build the filter from the options that were given.

    Raises:
        Misconfigured: an option is wrong, or is given twice.
    """
    fields = _from_json(given[_JSON]) if given[_JSON] is not None else {}
    for name, (option, _) in _OPTIONS.items():
        if not given[name]:
            continue
        alias = Filter.model_fields[name].alias or name
        if alias in fields:
            raise Misconfigured(f"{option}: {alias} is in --filter too; give it once")
        fields[alias] = _pairs(given[name]) if name == "headers" else given[name]
    return Filter.parse(fields)


def _from_json(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise Misconfigured(f"--filter: not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise Misconfigured(f"--filter: needs an object, as in {json.dumps({'reasons': ['exhausted']})}")
    return fields


def _pairs(given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, found, value = text.partition("=")
        if not (name and found):
            raise Misconfigured(f"--header {text}: write NAME=VALUE")
        if name in pairs:
            raise Misconfigured(f"--header {name} is given twice; a header has one value")
        pairs[name] = value
    return pairs
