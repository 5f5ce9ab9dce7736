"""Outputs of cells: a panel while its run goes on, and the record that a saved notebook keeps of it.

A panel is shown with a display id, in a bundle with the same as HTML and as text; when its run ends, that is replaced
by the record. For a notebook that is saved meanwhile, a second output keeps the last known state, a little behind; the
panel hides it, so that it is seen only where no kernel draws the panel.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from html import escape
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

from IPython.core.getipython import get_ipython
from IPython.display import display

from durably_nb.widgets import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.widgets.faces import Face

_KEPT_AFTER_S: Final = 2.0
_KEPT_LESS: Final = 4
"""The last known state is kept after 2, 8, 32, 128 … seconds."""

_MOST_ENDED: Final = 50
"""Panels of ended runs that stay open, for pages that were loaded since and did not hear of the end."""

_NOTHING: Final = {"text/html": ""}


def have_front_end() -> bool:
    """Whether there is a kernel, so that outputs of cells can change."""
    return _kernel() is not None


def show(panel: Panel) -> None:
    """Show a panel in the cell that executes; without a kernel, a line of text."""
    kernel = _kernel()
    if kernel is not None:
        cell = _Cell(kernel)
        _Output(panel, cell)
        _cells.add(panel, cell)
    else:
        show_record(panel.scene())


def close_with_cell(view: Closable) -> None:
    """Close a view once the cell that executes is executed again and shows others: it is gone from the page then."""
    kernel = _kernel()
    if kernel is not None:
        _cells.add(view, _Cell(kernel))


def show_record(scene: render.Scene) -> None:
    """Show the record of a run in the cell that executes."""
    display(_record(scene), raw=True)


class Closable(Protocol):
    """A view in the output of a cell."""

    def close(self) -> None:
        """Take it away."""


class Panel(Closable, Protocol):
    """A panel, as far as its output cares."""

    is_retired: bool

    @property
    def widget(self) -> Face:
        """The widget."""

    def scene(self) -> render.Scene:
        """Give what was drawn last."""

    def widget_view(self) -> dict[str, Any]:
        """Give what makes a front end show the widget."""

    def on_drawn(self, call: Callable[[render.Scene], float | None]) -> None:
        """Call with each scene that was drawn."""


class _Cell:
    """One execution of a cell, to which outputs are sent: also later, and from other threads."""

    def __init__(self, kernel: Any) -> None:  # noqa: ANN401 - ipykernel is not typed, and others resemble it
        self._kernel = kernel
        self._parent: dict[str, Any] = kernel.get_parent()
        self.execution = self._parent.get("header", {}).get("msg_id")
        self.cell = self._parent.get("metadata", {}).get("cellId")

    def publish(self, display_id: str, bundle: dict[str, Any], *, update: bool) -> None:
        """Send an output, or what one is from now on."""
        # By hand, since IPython's own display belongs to the cell that runs now, or ran last. An update may be that
        # one's: pages find its output by its id, and what executes notebooks listens to the cell that runs only.
        self._kernel.session.send(
            self._kernel.iopub_socket,
            "update_display_data" if update else "display_data",
            {"data": bundle, "metadata": {}, "transient": {"display_id": display_id}},
            parent=self._kernel.get_parent() if update else self._parent,
            ident=b"display_data",
        )


class _Output:
    """One showing of a panel."""

    def __init__(self, panel: Panel, cell: _Cell) -> None:
        self.panel = panel
        self.cell = cell
        self.id = uuid4().hex
        scene = panel.scene()
        self._is_replaced = scene.view.is_active  # a panel of a run that has ended was asked for; it stays
        self._is_record = False
        self._kept_after_s = _KEPT_AFTER_S
        self._keep_at = time.monotonic() + _KEPT_AFTER_S
        self._has_kept = False
        self._kept: tuple[object, ...] | None = None
        self.cell.publish(self.id, self._bundle(scene), update=False)
        if not self._is_replaced:
            self._keep(scene)
        panel.on_drawn(self._follow)

    def _follow(self, scene: render.Scene) -> float | None:
        """Show what became of the run: its end, or that it goes on again."""
        if scene.view.is_active and not self.panel.is_retired:
            if self._is_record:
                self._is_record = False
                self.cell.publish(self.id, self._bundle(scene), update=True)
            return self._keep_now_and_then(scene)
        if not self._is_replaced:
            self._keep(scene)
        elif not self._is_record:
            self._is_record = True
            self.cell.publish(self.id, _record(scene), update=True)
            self._keep_nothing()
            _cells.ended(self.panel)
        return None

    def _keep_now_and_then(self, scene: render.Scene) -> float:
        """Keep the last known state, each time a while later than the last."""
        left = self._keep_at - time.monotonic()
        if left > 0:
            return left
        self._kept_after_s *= _KEPT_LESS
        self._keep_at = time.monotonic() + self._kept_after_s
        self._keep(scene)
        return self._kept_after_s

    def _keep(self, scene: render.Scene) -> None:
        """Keep how the run stands, for where no kernel draws the panel."""
        state = (scene.view.record.run_id, scene.view.sequence, scene.view.record.status)
        if state == self._kept:
            return
        model_id = self.panel.widget.model_id
        first = f"<style>.dn-first-{self.id} {{ display: none }}</style>"
        lost = render.hiding_lost(model_id)
        html = f'{first}{lost}<div class="{render.kept(model_id)}">{render.record(scene)}</div>'
        self.cell.publish(f"{self.id}-kept", {"text/html": html}, update=self._has_kept)
        self._has_kept = True
        self._kept = state

    def _keep_nothing(self) -> None:
        if self._has_kept:
            self.cell.publish(f"{self.id}-kept", _NOTHING, update=True)
            self._kept = None

    def _bundle(self, scene: render.Scene) -> dict[str, Any]:
        line = render.line(scene)
        # What is kept beside a panel that stays says it all, and is hidden nowhere that this is shown.
        html = render.record(scene) if self._is_replaced else f"<p>{escape(line)}</p>"
        first = f'<div class="dn-first-{self.id}">{html}</div>'
        return {**self.panel.widget_view(), "text/html": first, "text/plain": line}


class _Cells:
    """The views there are, by the cell that shows them."""

    def __init__(self) -> None:
        self._views: dict[str, list[tuple[str, weakref.ref[Closable]]]] = {}
        self._ended: deque[weakref.ref[Panel]] = deque()

    def add(self, view: Closable, cell: _Cell) -> None:
        """Know of a view; those of an earlier execution of its cell are gone from the page, and are closed."""
        if cell.cell is None:
            return
        before = self._views.get(cell.cell, [])
        still = [(execution, reference) for execution, reference in before if execution == cell.execution]
        self._views[cell.cell] = [*still, (cell.execution, weakref.ref(view))]
        for execution, reference in before:
            former = reference()
            if former is not None and execution != cell.execution and not self._is_shown(former):
                former.close()

    def _is_shown(self, view: Closable) -> bool:
        """Whether a view is shown by any cell: one that a name was given may be shown by several."""
        return any(reference() is view for here in self._views.values() for _, reference in here)

    def ended(self, panel: Panel) -> None:
        """Know that a record stands in the place of a panel."""
        self._ended.append(weakref.ref(panel))
        while len(self._ended) > _MOST_ENDED:
            oldest = self._ended.popleft()()
            if oldest is not None and not oldest.scene().view.is_active:
                oldest.close()


_cells: Final = _Cells()


def _kernel() -> Any:  # noqa: ANN401 - as above
    return getattr(get_ipython(), "kernel", None)


def _record(scene: render.Scene) -> dict[str, str]:
    return {"text/html": render.record(scene), "text/plain": render.line(scene)}
