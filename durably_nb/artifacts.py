"""Files beside the store: what is too large for a row.

One directory for each run. A file is whole or not there: it is written under a temporary name, fsynced and
renamed before anything refers to it. Every file is reached from its directory's descriptor and no symbolic
link is followed, so no name, however it came into the database, leads out of the directory.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from durably_nb.errors import SerializationError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIXES = ("arrow", "bin", "json", "npy", "parquet", "pickle")

_RUN_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_NAME = re.compile(rf"(?P<run_id>{_RUN_ID.pattern})/(?P<file>[0-9a-f]{{32}}\.(?:{'|'.join(SUFFIXES)}))")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EXISTING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Artifacts:
    """The files of one store, each written once and named ``<run id>/<32 hex>.<suffix>``.

    Safe to use from several threads, as long as nobody sweeps or deletes a run that another thread writes to.
    """

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, which is made at the first write."""
        self.directory = directory
        self.removing = threading.Lock()
        """Held while files are removed; and by a backup, which needs all that its copy of the log names."""

    def write(self, run_id: str, data: bytes | memoryview, suffix: str) -> str:
        """Store ``data`` durably and return its name; it is on disk when this returns.

        Raises:
            SerializationError: The run id or suffix is not one, or a symbolic link stands in the way.
            StoreError: The file system refused.

        """
        file = f"{secrets.token_hex(16)}.{suffix}"
        name = f"{run_id}/{file}"
        _parts(name)
        try:
            with self._run(run_id, make=True) as folder:
                _write_durably(folder, file, data)
        except OSError as error:
            raise StoreError(
                f"A value of {memoryview(data).nbytes:,} bytes could not be written to {self.directory}: "
                f"{error.strerror}. Make room or mend the permissions there and run again."
            ) from error
        return name

    def read(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises:
            SerializationError: The name is not one, or the file is missing, unreadable or not a plain file.

        """
        run_id, file = _parts(name)
        try:
            with self._run(run_id) as folder, _opened(folder, file, _EXISTING) as opened:
                if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                    raise SerializationError(
                        f"The stored file {name} in {self.directory} is not a plain file; it was not read."
                    )
                return opened.read()
        except OSError as error:
            raise SerializationError(
                f"The stored file {name} cannot be read from {self.directory}: {error.strerror}. Put the "
                "file back from a backup (the directory belongs to the database file and moves with it), "
                "or delete the run and trigger it again."
            ) from error

    def delete_run(self, run_id: str) -> None:
        """Remove every file of a run; nothing happens if there are none."""
        self.sweep(run_id, set())

    def run_ids(self) -> list[str]:
        """Return the runs that have a directory, in order."""
        try:
            with os.scandir(self.directory) as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if _RUN_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def sweep(self, run_id: str, keep: set[str]) -> None:
        """Remove what a run's directory holds besides the names in ``keep``, and the directory if empty."""
        with self.removing, suppress(FileNotFoundError):
            with self._run(run_id) as folder:
                with os.scandir(folder) as entries:
                    files = {entry.name for entry in entries}
                kept = {file for file in files if f"{run_id}/{file}" in keep}
                for file in files - kept:
                    _remove(folder, file)
            if not kept:
                with _directory(self.directory) as root:
                    os.rmdir(run_id, dir_fd=root)

    def copy_to(self, directory: Path) -> None:
        """Copy all files to a new directory, while others are written; nobody may remove any meanwhile.

        Raises:
            StoreError: The file system refused.

        """
        try:
            if self.directory.is_dir():
                shutil.copytree(self.directory, directory, symlinks=True, ignore=shutil.ignore_patterns("*.tmp"))
        except OSError as error:
            raise StoreError(f"The files beside the database could not be copied to {directory}: {error}") from error

    @contextmanager
    def _run(self, run_id: str, *, make: bool = False) -> Iterator[int]:
        """Open a run's directory, making it and the one above if asked to."""
        if not _RUN_ID.fullmatch(run_id):
            raise SerializationError(f"{run_id!r} is not a run id (a ULID); no file was touched.")
        if make and _make(self.directory):
            with _directory(self.directory.parent, follow=True) as parent:
                os.fsync(parent)
        with _directory(self.directory) as root:
            if make and _make(run_id, root):
                os.fsync(root)
            with _directory(run_id, root) as folder:
                yield folder


def _parts(name: str) -> tuple[str, str]:
    """Split a name into run id and file; only what ``write`` could have returned passes."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise SerializationError(f"{name!r} is not the name of a stored file; nothing was read or written.")
    return found["run_id"], found["file"]


def _make(path: str | Path, parent: int | None = None) -> bool:
    """Make a directory; whether it is new."""
    try:
        os.mkdir(path, dir_fd=parent)
    except FileExistsError:
        return False
    return True


@contextmanager
def _directory(path: str | Path, parent: int | None = None, *, follow: bool = False) -> Iterator[int]:
    """Open a directory itself, never what a symbolic link in its place points to."""
    try:
        descriptor = os.open(path, _DIRECTORY & ~os.O_NOFOLLOW if follow else _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SerializationError(
            f"{path} should be a directory of stored values, but it cannot be used as one ({error.strerror}; "
            "symbolic links are not followed). Move away what stands there, or mend its permissions."
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(folder: int, file: str, flags: int) -> BinaryIO:
    return os.fdopen(os.open(file, flags, 0o666, dir_fd=folder), "wb" if flags & os.O_WRONLY else "rb")


def _write_durably(folder: int, file: str, data: bytes | memoryview) -> None:
    temporary = f"{file}.tmp"
    try:
        with _opened(folder, temporary, _NEW) as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        os.rename(temporary, file, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        _remove(folder, temporary)
        raise
    os.fsync(folder)


def _remove(folder: int, file: str) -> None:
    """Remove whatever has this name, and everything in it if it is a directory; links are not followed."""
    try:
        if stat.S_ISDIR(os.stat(file, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(file, dir_fd=folder)
        else:
            os.unlink(file, dir_fd=folder)
    except FileNotFoundError:
        return
