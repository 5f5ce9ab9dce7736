"""`Face`: the widget that a panel draws itself with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.widgets.render import Scene


class Face(Protocol):
    """A widget, as far as a panel cares."""

    is_synced: bool
    model_id: str

    def show(self, message: dict[str, Any], scene: Scene) -> None:
        """Show what changed."""

    def sync(self, state: dict[str, Any]) -> None:
        """Take the whole state, for pages that are loaded later."""

    def on_msg(self, callback: Callable[..., Any], remove: bool = ...) -> None:  # noqa: FBT001 - as ipywidgets has it
        """Call with each message of a front end."""

    def observe(self, handler: Callable[..., Any], names: Any = ...) -> None:  # noqa: ANN401 - as traitlets has it
        """Call when a trait changes."""

    def close(self) -> None:
        """Close every model of it."""
