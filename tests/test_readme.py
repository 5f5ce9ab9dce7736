"""What the README shows works, and what it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import durably_nb

README = Path(__file__).parent.parent / "README.md"
TEXT = README.read_text(encoding="utf-8")

PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", TEXT, flags=re.MULTILINE)
CODE = re.findall(r"`([^`\n]+)`", TEXT) + PYTHON_BLOCKS
LINKS = [link for link in re.findall(r"\]\(([^)\s]+)\)", TEXT) if "://" not in link]


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


@pytest.mark.parametrize(
    ("pattern", "owner"),
    [
        (r"\bdn\.([a-z_]+)", durably_nb),
        (r"\bd\.([a-z_]+)", durably_nb.Durably),
        (r"\brun\.([a-z_]+)", durably_nb.Run),
        (r"\bstep\.([a-z_]+)", durably_nb.StepContext),
        (r"\b([A-Z][A-Za-z]+Error)\b", durably_nb),
    ],
    ids=["dn", "d", "run", "step", "errors"],
)
def test_every_name_exists(pattern: str, owner: object) -> None:
    """What the README names can be typed."""
    names = {name for code in CODE for name in re.findall(pattern, code)}
    assert names
    assert [name for name in sorted(names) if not hasattr(owner, name)] == []


def test_no_link_is_dead() -> None:
    """Every relative link leads to a file."""
    assert LINKS
    assert [link for link in LINKS if not (README.parent / link.split("#")[0]).exists()] == []
