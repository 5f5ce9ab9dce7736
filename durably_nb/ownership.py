"""Who has the file: a lock on a file beside it, held for the life of the store.

DuckDB's own lock is lost on Linux as soon as anything in the process opens and closes the database
file; this one is on a file that nothing else opens. The kernel gives it up when the process dies,
however it dies: to hold it is to know that no other holder lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from durably_nb.errors import StoreError, StoreLockedError

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MODE: Final = 0o666  # less the user's umask


class Ownership:
    """The right of this process to a database file."""

    def __init__(self, database: Path) -> None:
        """Name the database; nothing is locked yet."""
        self._database = database
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, and write into it who has it.

        Raises:
            StoreLockedError: If it is held already; the message names the owner.
            StoreError: If the lock file cannot be made.

        """
        while self._descriptor is None:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._is_current(descriptor):
                    continue  # its last owner removed it between our open and our lock
                self._write_owner(descriptor)
                self._descriptor = descriptor
            except BlockingIOError:
                raise self._locked(_read_owner(descriptor)) from None
            except OSError as error:
                raise self._unusable(error) from error
            finally:
                if self._descriptor != descriptor:
                    os.close(descriptor)
        _held.add(self)

    def release(self) -> None:
        """Give the lock up and remove its file; may be called twice."""
        _held.discard(self)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # Removed while it is still held: whoever opens it later opens a new one.
            self._path.unlink(missing_ok=True)
            os.close(descriptor)

    def forget(self) -> None:
        """Close the descriptor a forked child inherited; the parent's lock stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, _FLAGS, _MODE)
        except OSError as error:
            raise self._unusable(error) from error

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.lstat())
        except FileNotFoundError:
            return False

    def _write_owner(self, descriptor: int) -> None:
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            # Jupyter Server tells a kernel which notebook it was started for.
            "notebook": os.environ.get("JPY_SESSION_NAME") or sys.argv[0] or None,
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(owner).encode(), 0)

    def _locked(self, owner: dict[str, Any]) -> StoreLockedError:
        if owner.get("pid") == os.getpid() and owner.get("host") == socket.gethostname():
            return StoreLockedError(
                f"{self._database} is open in this process already. "
                "Use dn.open(...) with the same path to get the object that has it, or close() that one first."
            )
        who = "another process"
        if owner:
            notebook = f", {owner['notebook']}" if owner.get("notebook") else ""
            who = f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')}{notebook})"
        return StoreLockedError(
            f"{self._database} is in use by {who}, and one process at a time can have it. Go on in that notebook, "
            "or shut its kernel down and try again, or open another file here."
        )

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            f"The lock {self._path} cannot be taken: {error.strerror or error}. "
            "Open a database in a directory that exists, that you may write to, and that supports file locks."
        )


def _read_owner(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 65_536, 0))
    except ValueError:  # it is being written at this moment, or by something else
        return {}
    return owner if isinstance(owner, dict) else {}


_held: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A descriptor shared with a child that outlives its parent would keep the lock held.
    for ownership in list(_held):
        ownership.forget()


os.register_at_fork(after_in_child=_forget_in_child)
