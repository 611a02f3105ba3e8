"""SQL stands in `.sql` files, each statement under a name and a description; this reads them."""

import re
from functools import cache
from importlib.resources import files

_STATEMENT = re.compile(r"^-- (\w+) --\n((?:--[^\n]*\n)+)(.*?)(?=^-- \w+ --\n|\Z)", re.MULTILINE | re.DOTALL)


@cache
def load(package: str, name: str) -> dict[str, str]:
    """Return the statements of `<package>/sql/<name>.sql` by name.

    Raises:
        FileNotFoundError: no such file.
    """
    text = (files(package) / "sql" / f"{name}.sql").read_text()
    return {found[1]: found[3].strip().rstrip(";") for found in _STATEMENT.finditer(text)}
