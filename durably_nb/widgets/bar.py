"""`BarFace`: a run as core ipywidgets, a progress bar and a label, for layouts of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ipywidgets

from durably_nb.widgets import render

if TYPE_CHECKING:
    from durably_nb.widgets.render import Scene

_STYLES: Final = {"completed": "success", "failed": "danger", "cancelled": "warning"}


class BarFace(ipywidgets.HBox):
    """A bar and a label that follow a run."""

    is_synced = True

    def __init__(self) -> None:
        """Begin with an empty bar."""
        self._bar: Any = ipywidgets.IntProgress(min=0, max=1)
        self._label = ipywidgets.Label(layout={"width": "max-content", "flex": "none"})  # else a layout cuts it
        super().__init__([self._bar, self._label])

    def __repr__(self) -> str:
        """Show what its label says."""
        return f"<BarFace: {self._label.value}>"

    def show(self, _: dict[str, Any], scene: Scene) -> None:
        """Set the bar and the label."""
        progress = scene.view.progress
        current, total = (0, None) if progress is None else (progress.current, progress.total)
        status = scene.view.record.status
        if total is None:  # how far it is cannot be told: an empty bar, and a full one when it is done
            current, total = int(status == "completed"), 1
        if isinstance(self._bar, ipywidgets.IntProgress) and not (isinstance(current, int) and isinstance(total, int)):
            self._replace_bar(ipywidgets.FloatProgress(min=0, max=1))
        with self._bar.hold_sync():
            self._bar.max = max(total, 1) if isinstance(self._bar, ipywidgets.IntProgress) else total
            self._bar.value = min(current, self._bar.max)
            self._bar.bar_style = _STYLES.get(status, "")
        self._label.value = render.brief(scene)

    def sync(self, state: dict[str, Any]) -> None:
        """Every trait of core widgets is synced as it is set."""

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - as ipywidgets has it
        """Show the widget in a cell; what its label says where widgets are not shown."""
        bundle: dict[str, Any] = super()._repr_mimebundle_(**options)
        return bundle | {"text/plain": self._label.value}

    def close(self) -> None:
        """Close the bar, the label, and what ipywidgets made for them."""
        for widget in (self._bar, self._label):
            _close(widget)
        self.layout.close()
        super().close()

    def _replace_bar(self, bar: Any) -> None:  # noqa: ANN401 - ipywidgets is not typed
        _close(self._bar)
        self._bar = bar
        self.children = [bar, self._label]


def _close(widget: Any) -> None:  # noqa: ANN401 - as above
    widget.layout.close()
    widget.style.close()
    widget.close()
