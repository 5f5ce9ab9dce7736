"""Loads the magics and their completion into a shell, and takes them out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durably_nb.magics.commands import DurablyMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load(shell: InteractiveShell) -> None:
    """Give a shell the magics."""
    magics = DurablyMagics(shell)
    shell.register_magics(magics)
    shell.Completer.custom_matchers.append(magics.completion.matcher)


def unload(shell: InteractiveShell) -> None:
    """Take the magics from a shell; what is open stays open."""
    manager = shell.magics_manager
    magics: DurablyMagics = manager.registry.pop(DurablyMagics.__name__)
    shell.Completer.custom_matchers.remove(magics.completion.matcher)
    for kind, methods in magics.magics.items():
        for name, method in methods.items():
            if manager.magics[kind].get(name) == method:  # and not another that took its name since
                del manager.magics[kind][name]
