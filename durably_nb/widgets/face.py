"""`PanelFace`: the panel's own widget, one model with a front end of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anywidget
import traitlets

if TYPE_CHECKING:
    from durably_nb.widgets.render import Scene

_HERE: Final = Path(__file__).parent


class PanelFace(anywidget.AnyWidget):
    """Shows what it is sent. `state` is what a page that was reloaded begins with."""

    # As text: of a path, anywidget watches the file, and with it holds every widget for ever.
    _esm = (_HERE / "panel.js").read_text(encoding="utf-8")
    _css = (_HERE / "panel.css").read_text(encoding="utf-8")
    state = traitlets.Dict().tag(sync=True)

    is_synced = False

    def __init__(self) -> None:
        """Open the model."""
        super().__init__()
        free_replies(self)

    def show(self, message: dict[str, Any], _: Scene) -> None:
        """Send what changed."""
        self.send(message)

    def sync(self, state: dict[str, Any]) -> None:
        """Take the whole state."""
        self.state = state
        self.is_synced = True

    def close(self) -> None:
        """Close it, and what ipywidgets made for it."""
        self.layout.close()
        super().close()


def free_replies(widget: Any) -> None:  # noqa: ANN401 - any widget
    """Let clicks come in while a cell runs, where the front end could deliver them.

    ipykernel 7.4 has a comm's messages handled by the shell that last sent on it: after an update from a thread that
    is the main one, which a running cell blocks.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = None  # noqa: SLF001 - there is no public way
