"""What the README shows works, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import durably_nb

if TYPE_CHECKING:
    import pytest

README = Path(__file__).parent.parent / "README.md"
PACKAGE = Path(durably_nb.__file__).parent
TEXT = README.read_text(encoding="utf-8")

PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", TEXT, flags=re.MULTILINE)
CODE = re.findall(r"`([^`\n]+)`", TEXT) + PYTHON_BLOCKS
LINKS = [link for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in link]
STATIONS = re.search(r"^\| station \|.*?\n\n", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader can paste the blocks into cells, one after the other."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    try:
        for block in PYTHON_BLOCKS:
            exec(compile(block, README.name, "exec", dont_inherit=True), namespace)  # noqa: S102 - our own README
        assert isinstance(run := namespace["run"], durably_nb.Run)
        assert run.result(timeout=60) == {"rows": 4}
    finally:
        for value in namespace.values():
            if isinstance(value, durably_nb.Durably):
                value.close()


def test_the_two_commands_come_first() -> None:
    """A newcomer's first two commands are the demo and the tests."""
    assert ["".join(command) for command in COMMANDS][:2] == ["demo", "test"]


def test_every_command_exists() -> None:
    """What the README tells to make can be made."""
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    assert [name for name in map("".join, COMMANDS) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []


def test_every_name_exists(path: Path) -> None:
    """What the README names can be typed."""
    owners: dict[str, object] = {"dn": durably_nb}

    def look(step: durably_nb.StepContext) -> None:
        owners["step"] = step

    with durably_nb.open(path) as d:
        owners["d"] = d
        owners["run"] = d.job(look).trigger().wait(timeout=60)
        for owner, thing in owners.items():
            names = {name for code in CODE for name in re.findall(rf"(?<![\w.]){owner}\.([a-z_]+)", code)}
            assert names, owner
            assert [f"{owner}.{name}" for name in sorted(names) if not hasattr(thing, name)] == []


def test_every_error_exists() -> None:
    """What the README says is raised can be caught."""
    errors = {name for code in CODE for name in re.findall(r"\b[A-Z][A-Za-z]+Error\b", code)}
    assert errors
    assert [name for name in sorted(errors) if not hasattr(durably_nb, name)] == []


def test_every_file_has_its_station() -> None:
    """A developer finds each file of the package in the table of stations, and no other there."""
    assert STATIONS
    named = re.findall(r"`([a-z_]+)(?:\.py|/)`", STATIONS[0])
    files = [path.stem for path in PACKAGE.glob("[!_.]*") if path.is_dir() or path.suffix == ".py"]
    assert sorted(named) == sorted(files)


def test_no_link_is_dead() -> None:
    """Every relative link leads to a file."""
    assert LINKS
    assert [link for link in LINKS if not (README.parent / link.split("#")[0]).exists()] == []
