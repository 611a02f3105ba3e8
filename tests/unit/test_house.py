"""How the house is kept: style, types, the direction of imports, pins, and what files may say."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
        ("lint-imports",),
    ],
    ids=["lint", "format", "types", "imports"],
)
def test_the_tools_find_nothing(command):
    argv = [Path(sys.executable).parent / command[0], *command[1:]]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_package_of_the_environment_is_pinned_exactly():
    pins = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
    pins |= dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["build-constraint-dependencies"])
    found = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    ours = {name: version for name, version in found.items() if name not in ("evenkeel", "pip", "setuptools", "uv")}
    missing = {name: version for name, version in ours.items() if pins.get(name) != version}
    assert not missing, f"pin these in [tool.uv] constraint-dependencies of pyproject.toml: {missing}"


def test_only_the_folders_of_the_design_are_at_the_top():
    allowed = {"services", "charts", "operator", "observability", "tests", ".github", ".ci"}
    assert {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1} <= allowed


def test_no_file_names_a_package_host_or_a_path_of_one_machine():
    host = re.compile(
        r"https?://(?:registry|proxy|files|static|index|deb)\.[a-z0-9.-]+|/(?:work|root)/[a-z.]", re.IGNORECASE
    )
    told = {}
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path != Path(__file__) and (found := host.findall(text)):
            told[str(path.relative_to(ROOT))] = found
    assert not told


def test_files_and_functions_stay_small():
    long_files, long_functions = [], []
    for path in tracked():
        if path.suffix != ".py" or path.relative_to(ROOT).parts[0] not in ("services", "operator"):
            continue
        text = path.read_text()
        if text.count("\n") > 300:
            long_files.append(path.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if len(node.body) > 1 and ast.get_docstring(node) else node.body[0]
                if node.end_lineno - first.lineno + 1 > 60:
                    long_functions.append(f"{path.name}:{node.name}")
    assert (long_files, long_functions) == ([], [])
