"""Clicks that come while a cell awaits: ipykernel 6 keeps them until the cell is done, so they are fetched.

Later versions handle them beside the cell, or on another thread.
"""

from __future__ import annotations

import sys
import threading
from typing import Any


def take() -> None:
    """Handle what views of widgets have sent; called on and on by the event loop in which a cell awaits."""
    kernel = _kernel()
    queue = getattr(kernel, "msg_queue", None)  # there is none in ipykernel 7
    if queue is None or threading.current_thread() is not threading.main_thread():
        return
    waiting = [queue.get_nowait() for _ in range(queue.qsize())]
    clicks = [request for request in waiting if _is_click(kernel, request)]
    for request in waiting:
        if request not in clicks:
            queue.put_nowait(request)
    for _, _, (frames,) in clicks:
        _handle(kernel, frames)


def _kernel() -> Any:  # noqa: ANN401 - ipykernel is never imported for it
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    return getattr(get_shell(), "kernel", None)


def _is_click(kernel: Any, request: tuple[int, Any, tuple[Any, ...]]) -> bool:  # noqa: ANN401 - as above
    _, dispatch, arguments = request
    if dispatch != kernel.dispatch_shell:
        return False
    _, (_, header, *_) = kernel.session.feed_identities(arguments[0], copy=False)
    return bool(kernel.session.unpack(header.bytes)["msg_type"] == "comm_msg")


def _handle(kernel: Any, frames: list[Any]) -> None:  # noqa: ANN401 - as above
    """Handle a message as the kernel does, and give the cell back what it prints under."""
    identities, parts = kernel.session.feed_identities(frames, copy=False)
    message = kernel.session.deserialize(parts, copy=False)
    before = kernel._parent_ident["shell"], kernel.get_parent("shell")  # noqa: SLF001 - there is no public way
    kernel.set_parent(identities, message, channel="shell")
    kernel._publish_status("busy", "shell")  # noqa: SLF001 - as above
    try:
        kernel.shell_handlers["comm_msg"](kernel.shell_stream, identities, message)
    finally:
        kernel._publish_status("idle", "shell")  # noqa: SLF001 - as above
        kernel.set_parent(*before, channel="shell")
