"""Completion of what stands behind a magic: subcommands, options and their values, jobs and runs."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from IPython.core.completer import SimpleCompletion, context_matcher
from IPython.core.error import UsageError

from durably_nb.errors import DurablyError
from durably_nb.events import EVENT_CLASSES
from durably_nb.models import ACTIVE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

    from durably_nb.magics.current import Current

_RUNS: Final = 50
_MAGIC: Final = re.compile(r"\s*(?:\w+\s*=\s*)?(%%?\w+)\s+(.*)")
"""A magic, be it assigned to a name, and what is written behind it."""


class Completion:
    """Knows what can be written behind the magics, from their parsers."""

    def __init__(self, parsers: Mapping[str, argparse.ArgumentParser], current: Current) -> None:
        """Take the parsers by magic, such as ``"%%job"``, and the store that has jobs and runs."""
        self._parsers = parsers
        self._current = current

    @context_matcher()
    def matcher(self, context: CompletionContext) -> SimpleMatcherResult:
        """Give the completions, as IPython asks for them; none where others know better."""
        match = _MAGIC.fullmatch(context.text_until_cursor)
        parser = None if match is None else self._parsers.get(match[1])
        if match is None or parser is None:
            return {"completions": []}
        *before, word = re.split(r"\s+", match[2])
        fitting = [text for text in self._texts(parser, before, word) if text.lower().startswith(word.lower())]
        # IPython's token is the end of the word: it also splits at signs such as the colon of "run:fail".
        known = len(word) - len(context.token) if word.endswith(context.token) else 0
        completions = [SimpleCompletion(text[known:], type="param") for text in fitting]
        return {"completions": completions, "suppress": bool(completions), "ordered": True}

    def _texts(self, parser: argparse.ArgumentParser, before: list[str], word: str) -> Iterable[str]:
        actions = parser._actions  # noqa: SLF001 - argparse has no other list of them
        flags = {flag: action for action in actions for flag in action.option_strings}
        positionals = [action for action in actions if not action.option_strings]
        valued: argparse.Action | None = None
        for former in before:
            if valued is not None:
                valued = None
            elif former in flags:
                valued = flags[former] if flags[former].nargs is None else None
            else:
                positionals[:1] = []
        if valued is not None:
            return self._values(valued)
        return flags if word.startswith("-") or not positionals else self._values(positionals[0])

    def _values(self, action: argparse.Action) -> Iterable[str]:
        if action.choices is not None:
            return map(str, action.choices)
        if action.dest == "type":
            return EVENT_CLASSES
        try:
            return self._names(action.dest)
        except (UsageError, DurablyError):  # nothing is open, or it cannot be read now: others may complete
            return []

    def _names(self, dest: str) -> list[str]:
        if dest == "run":
            return [run.id for run in self._current.durably().get_runs(limit=_RUNS)]
        if dest == "active_run":
            return [run.id for run in self._current.durably().get_runs(status=ACTIVE, limit=_RUNS)]
        if dest == "job":
            durably = self._current.durably()
            stored = durably.sql("select distinct job_name from runs").fetchall()
            return sorted(map(shlex.quote, {*durably.jobs, *(name for (name,) in stored)}))
        return []
