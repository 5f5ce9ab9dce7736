"""`Panel`: the live panel of one run; a view of its events, with the buttons that fit its state."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Final

from durably_nb.widgets import outputs, render
from durably_nb.widgets.bar import BarFace
from durably_nb.widgets.commands import COMMANDS, carry_out, fitting
from durably_nb.widgets.following import Following
from durably_nb.widgets.pump import pump

try:
    from durably_nb.widgets.face import PanelFace
except ModuleNotFoundError as _missing:
    if _missing.name != "anywidget":
        raise
    PanelFace = BarFace  # type: ignore[misc] # a plain bar shows the run

if TYPE_CHECKING:
    from collections.abc import Callable

    from durably_nb.views import RunView
    from durably_nb.widgets.faces import Face
    from durably_nb.widgets.host import Host

SYNC_S: Final = 5.0
"""How often the whole state is synced while it changes: what a reloaded page begins with."""

_WIDGET: Final = "application/vnd.jupyter.widget-view+json"

_LOOKS_S: Final = {"pending": 1.0, "leased": 5.0}
"""How often a run is looked at without an event: what it waits for may come without one, and its pace slackens."""


class Panel:
    """The live panel of a run, or of the run that `follow` names later.

    Attributes:
        widget: The widget, to be shown or put into a layout.
        run_id: The run it shows.
        is_retired: Whether its store was closed.

    """

    def __init__(self, host: Host, run_id: str, make_widget: Callable[[], Face] | None = None) -> None:
        """Read the run and draw it; the pump does the rest.

        Raises:
            NotFoundError: If there is no such run.

        """
        self._host = host
        self._note: Callable[[], None] = partial(pump.note, self)
        following = Following(host, run_id, self._note)
        self.run_id = run_id
        self._following: Following | None = following  # None: closed
        self._view = following.view()  # as it was drawn last
        self._obeying = threading.Lock()
        self._obeyed = 0
        self._remark = ""
        self._is_asked = True  # by a view that was just made, or that waits for the answer to a command
        self.is_retired = False
        self._sent: dict[str, str] = {}
        self._sent_turn = ""
        self._synced_at: float | None = None  # None: all that was drawn is synced
        self._on_drawn: list[Callable[[render.Scene], float | None]] = []
        self.widget = (make_widget or PanelFace)()
        self.widget.on_msg(self._on_message)
        self.widget.observe(self._on_closed, "comm")
        self.draw()
        pump.add(self)
        host.register_view(self)
        self._note()  # for what came before the pump knew of it

    def __repr__(self) -> str:
        """Show what it shows, in a line."""
        return f"<Panel of run {self.run_id}: {render.word(self._view.record.status)}>"

    def follow(self, run_id: str) -> None:
        """Show another run from now on, unless it is closed.

        Raises:
            NotFoundError: If there is no such run.

        """
        following = Following(self._host, run_id, self._note)
        if self._following is None:
            return
        self.run_id, self._following = run_id, following
        self._is_asked = True
        self._note()

    def on_drawn(self, call: Callable[[render.Scene], float | None]) -> None:
        """Call with each scene that was drawn; it may ask for another drawing, after so many seconds."""
        self._on_drawn.append(call)
        self._note()

    def scene(self) -> render.Scene:
        """Give all that was drawn last."""
        return _scene(self._host, self._view)

    def draw(self) -> float | None:
        """Send what changed; called by the pump."""
        if self._following is None:
            return None
        asked, self._is_asked = self._is_asked, False
        self._view = self._following.view()
        scene = self.scene()
        regions = render.regions(scene) | {"actions": self._actions(), "kept": render.hiding_kept(self.widget.model_id)}
        sent = {} if asked else self._sent
        changed = {name: html for name, html in regions.items() if not render.is_same(sent.get(name), html)}
        turn = self._turn()
        if changed or turn != self._sent_turn:  # the store may know of an end, and show it, before it is told
            self.widget.show(self._state(scene) | {"regions": changed}, scene)
        self._sent, self._sent_turn = regions, turn
        wishes = [self._sync(scene, changed=bool(changed)), *(call(scene) for call in list(self._on_drawn))]
        if scene.view.is_active:
            wishes.append(_LOOKS_S[scene.view.record.status])
        return min((wish for wish in wishes if wish is not None), default=None)

    def retire(self) -> None:
        """Draw it a last time, and no more: the store is about to close."""
        self.is_retired = True
        self._remark = "Its file was closed. Open it again and watch the run to see how it stands now."
        pump.remove(self, last=True)

    def close(self) -> None:
        """Take it away: no listener, no widget model and no thread stays behind. May be called twice."""
        self._end()
        self.widget.close()

    def widget_view(self) -> dict[str, Any]:
        """Give what makes a front end show the widget, as a part of a bundle."""
        return {_WIDGET: {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}}

    def _ipython_display_(self) -> None:
        """Show it in the cell."""
        outputs.show(self)

    # --- drawing ---

    def _state(self, scene: render.Scene) -> dict[str, Any]:
        """Give the whole state, as a front end that knows nothing needs it."""
        run = scene.view.record
        label = f"Run {render.short(run.run_id)} of {run.job_name}"
        watch = render.watch(run.run_id)
        return {"turn": self._turn(), "label": label, "watch": watch, "regions": self._sent}

    def _actions(self) -> str:
        """Give the buttons, and what there is to say of a command."""
        run = self._view.record
        commands = () if self._view.is_deleted else fitting(run.status)
        name = escape(f"{run.job_name} {render.short(run.run_id)}")
        off = " disabled" if self.is_retired else ""
        buttons = "".join(
            f'<button type="button" data-key="{command}" data-command="{command}" '
            f'aria-label="{COMMANDS[command].label} {name}"{off}>{COMMANDS[command].label}</button>'
            for command in commands
        )
        return buttons + (f'<span role="alert">{escape(self._remark)}</span>' if self._remark else "")

    def _sync(self, scene: render.Scene, *, changed: bool) -> float | None:
        """Sync the whole state: at once where nothing more is expected, else now and then."""
        if self._synced_at is None and not changed:
            return None
        now = time.monotonic()
        if self._synced_at is None:
            self._synced_at = now
        left = self._synced_at + SYNC_S - now
        if left > 0 and scene.view.is_active and not self.is_retired and self.widget.is_synced:
            return left
        self._synced_at = None
        self.widget.sync(self._state(scene))
        return None

    # --- commands ---

    def _turn(self) -> str:
        """Give what a command is bound to: the run, its attempt, and what was commanded before."""
        return f"{self.run_id} {self._view.endings} {self._obeyed}"

    def _on_message(self, _: object, content: object, __: object) -> None:
        """Take a message of a front end, on whatever thread the kernel brings it: it is only noted."""
        command = content.get("command") if isinstance(content, dict) else None
        if isinstance(content, dict) and isinstance(command, str) and command in COMMANDS:
            carry_out(partial(self._obey, command, content.get("turn")), self._answer)
        else:
            self._is_asked = True
            self._note()

    def _obey(self, command: str, turn: object) -> None:
        """Carry out a command, unless it was meant for another run, an earlier attempt, or is a second click."""
        with self._obeying:
            if turn != self._turn():
                return
            self._obeyed += 1
            run_id = self.run_id
        run = COMMANDS[command].carry_out(self._host, run_id)
        if run is not None and run.id != run_id:
            self.follow(run.id)

    def _answer(self, problem: str | None) -> None:
        self._remark = problem or ""
        self._is_asked = True
        self._note()

    def _on_closed(self, change: Any) -> None:  # noqa: ANN401 - a traitlets change
        """The widget was closed, perhaps by somebody else."""
        if change["new"] is None:
            self._end()

    def _end(self) -> None:
        """Draw and hear no more."""
        pump.remove(self)
        self._following = None  # nobody else holds it, so that no event is brought any more
        self._on_drawn.clear()
        self.widget.on_msg(self._on_message, remove=True)


def show(host: Host, run_id: str) -> None:
    """Show a run in the cell that executes: its panel while it goes on, else its record."""
    following = Following(host, run_id, lambda: None)
    if outputs.have_front_end() and following.view().is_active:
        outputs.show(Panel(host, run_id))
    else:
        outputs.show_record(_scene(host, following.view()))


def progress_bar(host: Host, run_id: str) -> BarFace:
    """Give a bar and a label that follow a run, drawn as a panel is."""
    face = Panel(host, run_id, BarFace).widget
    assert isinstance(face, BarFace)  # noqa: S101 - for the type checker
    return face


def _scene(host: Host, view: RunView) -> render.Scene:
    run = view.record
    waits_for = host.waits_for(run.job_name) if run.status == "pending" and view.is_active else None
    output = host.outlined(run.output) if run.status == "completed" and run.output is not None else None
    return render.Scene(view, datetime.now(UTC), waits_for, output)
