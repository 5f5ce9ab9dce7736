from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import duckdb
import pytest

import durably_nb as dn
from durably_nb.artifacts import SUFFIXES, Artifacts
from durably_nb.errors import SerializationError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

RUN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
OTHER = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
HEX = "0123456789abcdef" * 2


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "jobs.duckdb.artifacts")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_was_written_is_read_back(artifacts: Artifacts, suffix: str) -> None:
    """A file comes back byte for byte, under a name that says run and format."""
    data = os.urandom(100_000)
    name = artifacts.write(RUN, memoryview(data), suffix)
    assert artifacts.read(name) == data
    assert name.startswith(f"{RUN}/")
    assert name.endswith(f".{suffix}")
    assert [each.name for each in (artifacts.directory / RUN).iterdir()] == [name.split("/")[1]]


def test_nothing_is_made_before_the_first_write(artifacts: Artifacts) -> None:
    """A store of small values has no directory beside it."""
    assert artifacts.run_ids() == []
    artifacts.delete_run(RUN)
    assert not artifacts.directory.exists()


def test_files_get_the_permissions_of_the_users_umask(artifacts: Artifacts) -> None:
    """The user's umask decides who can read the files."""
    before = os.umask(0o027)
    try:
        name = artifacts.write(RUN, b"x", "bin")
    finally:
        os.umask(before)
    assert stat.S_IMODE((artifacts.directory / name).stat().st_mode) == 0o640
    assert stat.S_IMODE(artifacts.directory.stat().st_mode) == 0o750


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../jobs.duckdb",
        "/etc/passwd",
        f"{RUN}/../{OTHER}/{HEX}.bin",
        f"../{RUN}/{HEX}.bin",
        f"{RUN}/{HEX}.exe",
        f"{RUN}/{HEX}.bin.tmp",
        f"{RUN}/{HEX}.bin\n",
        f"{RUN}/{HEX[1:]}.bin",
        f"{RUN.lower()}/{HEX}.bin",
        f"{RUN}/{HEX}.bin\0",
        f"{RUN}//{HEX}.bin",
    ],
)
def test_a_name_that_was_never_given_out_is_refused(artifacts: Artifacts, name: str) -> None:
    """Only names that write() could have returned are ever looked at."""
    artifacts.write(RUN, b"x", "bin")
    with pytest.raises(SerializationError, match="is not the name of a stored file"):
        artifacts.read(name)


def test_a_bad_run_id_or_suffix_is_refused_on_write(artifacts: Artifacts) -> None:
    """Nothing is written outside a run's own directory."""
    for run_id, suffix in (("..", "bin"), (RUN, "exe"), (f"{RUN}/x", "bin")):
        with pytest.raises(SerializationError, match="is not the name"):
            artifacts.write(run_id, b"x", suffix)
    with pytest.raises(SerializationError, match="is not a run id"):
        artifacts.sweep("..", set())
    assert not artifacts.directory.exists()


def test_a_missing_file_is_a_sentence(artifacts: Artifacts) -> None:
    """A file that is gone says which one, where, and what to do."""
    name = artifacts.write(RUN, b"x", "bin")
    (artifacts.directory / name).unlink()
    with pytest.raises(SerializationError, match=rf"{name} cannot be read .* backup"):
        artifacts.read(name)
    with pytest.raises(SerializationError, match="cannot be read"):
        artifacts.read(f"{OTHER}/{HEX}.bin")


def test_links_are_not_followed(artifacts: Artifacts, tmp_path: Path) -> None:
    """A symbolic link in place of a file, a run or the whole directory is refused, reading and writing."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / RUN).mkdir(parents=True)
    (elsewhere / RUN / f"{HEX}.bin").write_bytes(b"secret")
    name = f"{RUN}/{HEX}.bin"

    artifacts.directory.symlink_to(elsewhere)
    for attempt in (lambda: artifacts.read(name), lambda: artifacts.write(RUN, b"x", "bin")):
        with pytest.raises(SerializationError, match="symbolic"):
            attempt()
    artifacts.directory.unlink()

    artifacts.directory.mkdir()
    (artifacts.directory / RUN).symlink_to(elsewhere / RUN)
    for attempt in (lambda: artifacts.read(name), lambda: artifacts.write(RUN, b"x", "bin")):
        with pytest.raises(SerializationError, match="symbolic"):
            attempt()
    with pytest.raises(SerializationError, match="symbolic"):
        artifacts.delete_run(RUN)
    assert artifacts.run_ids() == []
    (artifacts.directory / RUN).unlink()

    (artifacts.directory / RUN).mkdir()
    (artifacts.directory / name).symlink_to(elsewhere / RUN / f"{HEX}.bin")
    with pytest.raises(SerializationError, match="cannot be read"):
        artifacts.read(name)
    artifacts.delete_run(RUN)
    assert (elsewhere / RUN / f"{HEX}.bin").read_bytes() == b"secret"
    assert artifacts.run_ids() == []


def test_a_file_that_is_no_file_is_refused(artifacts: Artifacts) -> None:
    """A pipe or directory in place of a file is a sentence, not a hang."""
    (artifacts.directory / RUN).mkdir(parents=True)
    os.mkfifo(artifacts.directory / RUN / f"{HEX}.bin")
    with pytest.raises(SerializationError, match="not a plain file"):
        artifacts.read(f"{RUN}/{HEX}.bin")
    (artifacts.directory / RUN / f"{HEX}.npy").mkdir()
    with pytest.raises(SerializationError, match=r"cannot be read|not a plain file"):
        artifacts.read(f"{RUN}/{HEX}.npy")


def test_sweep_keeps_what_is_named_and_nothing_else(artifacts: Artifacts) -> None:
    """Orphans, leftovers of an interrupted write and strays go; what a value refers to stays."""
    kept = artifacts.write(RUN, b"kept", "bin")
    artifacts.write(RUN, b"orphan", "json")
    other = artifacts.write(OTHER, b"other", "bin")
    folder = artifacts.directory / RUN
    (folder / f"{HEX}.bin.tmp").write_bytes(b"half")
    (folder / "stray").mkdir()
    (folder / "stray" / "file").write_bytes(b"x")

    artifacts.sweep(RUN, {kept})
    assert [each.name for each in folder.iterdir()] == [kept.split("/")[1]]
    assert artifacts.run_ids() == [RUN, OTHER]

    artifacts.sweep(RUN, set())
    assert artifacts.run_ids() == [OTHER]
    assert artifacts.read(other) == b"other"
    artifacts.delete_run(OTHER)
    artifacts.delete_run(OTHER)
    assert artifacts.run_ids() == []


def test_run_ids_are_directories_of_runs(artifacts: Artifacts) -> None:
    """Whatever else lies in the directory is not taken for a run."""
    artifacts.write(RUN, b"x", "bin")
    (artifacts.directory / "notes").mkdir()
    (artifacts.directory / OTHER).write_bytes(b"a file")
    assert artifacts.run_ids() == [RUN]


def test_a_write_that_fails_is_a_sentence_and_leaves_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    """Where the directory cannot be made, the error says so; another store is not touched."""
    nowhere = Artifacts(tmp_path / "missing" / "x.artifacts")
    with pytest.raises(StoreError, match="could not be written"):
        nowhere.write(RUN, b"x", "bin")
    artifacts.directory.write_bytes(b"a file")
    with pytest.raises(SerializationError, match="should be a directory"):
        artifacts.write(RUN, b"x", "bin")


def test_a_damaged_value_keeps_its_files(path: Path) -> None:
    """After a crash, orphans are removed, but nothing of a run in which a stored value is damaged."""

    def large() -> str:
        return "x" * 100_000

    with dn.open(path) as d:

        @d.job
        def work(step: dn.StepContext) -> int:
            return len(step.run("large", large))

        whole, damaged = work.trigger(), work.trigger()
        assert whole.result(timeout=20) == damaged.result(timeout=20) == 100_000
    artifacts = Artifacts(path.with_name(path.name + ".artifacts"))
    orphans = [artifacts.write(run.id, b"orphan", "bin") for run in (whole, damaged)]
    with duckdb.connect(path) as connection:  # as a crash leaves it, and a bad disk
        connection.execute("update durably.meta set value = '' where key = 'closed'")
        connection.execute(
            """update durably.log set data = replace(data, '"files":[', '"files":[1,') where run_id = ?""", [damaged.id]
        )
    dn.open(path).close()
    left = {run.id: {file.name for file in (artifacts.directory / run.id).iterdir()} for run in (whole, damaged)}
    assert [len(left[run.id]) for run in (whole, damaged)] == [1, 2]
    assert artifacts.read(orphans[1]) == b"orphan"
