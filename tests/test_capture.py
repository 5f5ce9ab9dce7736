from __future__ import annotations

import asyncio
import contextlib
import decimal
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.manager import start_new_kernel

import durably_nb as dn
from durably_nb.capture import captured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_client.blocking.client import BlockingKernelClient

ROOT = Path(dn.__file__).parents[1]


class Entries(list[tuple[str, str]]):
    """A sink that keeps what it is told."""

    def __call__(self, level: str, text: str) -> None:
        """Keep it."""
        self.append((level, text))


@pytest.fixture
def entries() -> Entries:
    return Entries()


@pytest.fixture(autouse=True)
def _all_is_put_back() -> Iterator[None]:
    def standing() -> list[object]:
        return [
            sys.stdout,
            sys.stderr,
            logging.Logger.callHandlers,
            logging.Handler.handle,
            warnings.showwarning,
            threading.Thread.start,
        ]

    before = standing()
    yield
    assert all(now is then for now, then in zip(standing(), before, strict=True))


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger that hands to no other, so that nothing but its own handlers is told."""
    logger = logging.Logger("test", logging.INFO)  # noqa: LOG001 - one that no other test can meet
    yield logger
    logger.handlers.clear()


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


# --- streams ---


def test_prints_become_entries(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """What a step prints is in its log and not on the screen."""
    with captured(entries):
        print("one", 2)
        print("to stderr", file=sys.stderr)
        sys.stdout.writelines(["a\n", "b\n"])
    assert entries == [("info", "one 2"), ("warn", "to stderr"), ("info", "a"), ("info", "b")]
    assert capsys.readouterr() == ("", "")


def test_prints_before_and_after_go_on(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """Output of the same cell before and after a capture is where it always was."""
    print("before")
    with captured(entries):
        print("inside")
    print("after")
    assert capsys.readouterr().out == "before\nafter\n"


def test_works_on_file_descriptors(entries: Entries, capfd: pytest.CaptureFixture[str]) -> None:
    """It works on a stream that has a file descriptor, as a terminal does."""
    descriptor = sys.stdout.fileno()
    with captured(entries):
        print("inside", flush=True)
        assert sys.stdout.fileno() == descriptor
    print("after", flush=True)
    assert (entries, capfd.readouterr().out) == ([("info", "inside")], "after\n")


def test_a_line_is_an_entry(entries: Entries) -> None:
    """Text is cut at newlines; the last piece counts when the step ends; blank lines do not."""
    with captured(entries):
        print("first ", end="")
        print("line\nsecond\r\n\n   \n", end="")
        assert entries == [("info", "first line"), ("info", "second")]
        print("no newline", end="")
    assert entries[2:] == [("info", "no newline")]


@pytest.mark.parametrize("ending", ["", "\n", "\r"])
def test_a_progress_bar_is_one_entry(entries: Entries, ending: str) -> None:
    """A bar that overwrites itself leaves its last state, not a hundred entries."""
    with captured(entries):
        for percent in range(101):
            sys.stderr.write(f"\r{percent} %")
            sys.stderr.flush()
        sys.stderr.write(ending)
    assert entries == [("warn", "100 %")]


def test_a_bar_that_writes_the_return_last(entries: Entries) -> None:
    """A bar is kept whole when the carriage return comes after the text instead of before it."""
    with captured(entries):
        for percent in range(101):
            sys.stdout.write(f"{percent} %\r")
        sys.stdout.write("\ndone\n")
    assert entries == [("info", "100 %"), ("info", "done")]


@pytest.mark.parametrize("character", ["a", "é", "€", "🙂"])
def test_long_lines_come_in_pieces(entries: Entries, character: str) -> None:
    """A line of a hundred thousand characters comes in pieces of at most 32 KiB and loses nothing."""
    with captured(entries):
        print("x" + character * 100_000)
    assert "".join(text for _, text in entries) == "x" + character * 100_000
    assert max(len(text.encode()) for _, text in entries) <= 32 * 1024


def test_endless_lines_do_not_pile_up(entries: Entries) -> None:
    """Megabytes without a newline are handed on as they come."""
    with captured(entries):
        for _ in range(100):
            sys.stdout.write("x" * 10_000)
        assert sum(len(text) for _, text in entries) > 950_000
    assert sum(len(text) for _, text in entries) == 1_000_000


def test_lone_surrogates_are_escaped(entries: Entries) -> None:
    """A file name that is no UTF-8 can be printed."""
    with captured(entries):
        print("a\udc80b")
    assert entries == [("info", "a\\udc80b")]
    entries[0][1].encode()


def test_bytes_are_taken_for_utf8(entries: Entries, capfd: pytest.CaptureFixture[str]) -> None:
    """What is written to the stream's buffer is captured too, characters in parts included."""
    with captured(entries):
        buffer = sys.stdout.buffer
        for byte in "grün\n".encode():
            buffer.write(bytes([byte]))
        buffer.flush()
    assert (entries, capfd.readouterr().out) == ([("info", "grün")], "")


def test_only_text_can_be_written(entries: Entries) -> None:
    """Writing a number is refused in the words of a real stream."""
    with captured(entries), pytest.raises(TypeError, match=r"write\(\) argument must be str, not int"):
        sys.stdout.write(3)  # type: ignore[arg-type]


def test_other_threads_see_the_real_stream(entries: Entries, capfd: pytest.CaptureFixture[str]) -> None:
    """For code of other threads, stdout is what it was, in every respect."""
    original = sys.stdout
    seen: dict[str, Any] = {}

    def look() -> None:
        inside.wait()
        stream: Any = sys.stdout
        stream.write("from outside\n")
        stream.buffer.write(b"bytes\n")
        stream.flush()
        seen["same"] = [
            getattr(stream, name) == getattr(original, name)
            for name in ("encoding", "errors", "name", "buffer", "newlines", "write", "read", "mode")
        ]
        seen["class"] = isinstance(stream, type(original)) and isinstance(stream, io.TextIOBase)
        seen["calls"] = (stream.fileno(), stream.isatty(), stream.writable())
        seen["repr"] = repr(stream) == repr(original)
        stream.mark = "set"
        seen["mark"] = vars(original).pop("mark")
        seen["gone"] = hasattr(stream, "mark")

    inside = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    with captured(entries):
        inside.set()
        thread.join()
    assert seen.pop("same") == [True] * 8
    assert seen.pop("calls") == (original.fileno(), False, True)
    assert seen == {"class": True, "repr": True, "mark": "set", "gone": False}
    assert (entries, capfd.readouterr().out) == ([], "from outside\nbytes\n")


def test_write_wrapped_from_outside(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """IPython wraps ``stdout.write`` around a cell: the wrapper sees the cell's text, nothing captured."""
    teed: list[str] = []
    inside, wrapped = threading.Event(), threading.Event()

    def step() -> None:
        with captured(entries):
            inside.set()
            wrapped.wait()
            print("of the step")

    worker = threading.Thread(target=step)
    worker.start()
    inside.wait()
    stream: Any = sys.stdout
    write = stream.write

    def tee(text: str) -> object:
        teed.append(text)
        return write(text)

    stream.write = tee
    wrapped.set()
    print("of the cell")
    worker.join()
    print("after the capture")
    stream.write = write
    print("after the cell")
    assert "".join(teed) == "of the cell\nafter the capture\n"
    assert capsys.readouterr().out == "of the cell\nafter the capture\nafter the cell\n"
    assert entries == [("info", "of the step")]


def test_write_replaced_inside_is_left_alone(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """Code of a step that replaces ``stdout.write`` does not break the stream of the others."""
    with captured(entries):
        stream: Any = sys.stdout
        write = stream.write
        stream.write = write
        in_thread(lambda: print("a thread of the step"))
    stream.write("later\n")
    assert (entries, capsys.readouterr().out) == ([("info", "a thread of the step")], "later\n")


def test_redirect_inside_a_step(entries: Entries) -> None:
    """A step may redirect its own output; the capture goes on afterwards."""
    buffer = io.StringIO()
    with captured(entries):
        with contextlib.redirect_stdout(buffer):
            print("redirected")
        print("captured")
    assert (buffer.getvalue(), entries) == ("redirected\n", [("info", "captured")])


def test_redirect_that_crosses_the_end(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """A redirection that begins inside a capture and ends after it leaves a stream that works."""
    original = sys.stdout
    redirection = contextlib.redirect_stdout(io.StringIO())
    with captured(entries):
        redirection.__enter__()
    redirection.__exit__(None, None, None)
    print("works")
    with captured(entries):
        print("captured")
    assert sys.stdout is original
    assert (entries, capsys.readouterr().out) == ([("info", "captured")], "works\n")


def test_no_stream_at_all(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python runs without a stdout, a step that prints does no harm."""
    monkeypatch.setattr(sys, "stdout", None)
    with captured(entries):
        print("nowhere")
        print("warned", file=sys.stderr)
    assert sys.stdout is None
    assert entries == [("warn", "warned")]


# --- nesting and ends ---


def test_the_innermost_is_told(entries: Entries) -> None:
    """Of nested captures the inner one gets the output, then the outer one again."""
    inner = Entries()
    with captured(entries):
        print("outer")
        with captured(inner):
            print("inner")
        print("outer again")
    assert (entries, inner) == ([("info", "outer"), ("info", "outer again")], [("info", "inner")])


def test_ends_in_any_order() -> None:
    """Captures of many threads begin and end in any order; each gets its own lines."""
    everywhere = threading.Barrier(8)
    sinks = [Entries() for _ in range(8)]

    def step(number: int) -> None:
        with captured(sinks[number]):
            everywhere.wait()
            for line in range(100):
                print(number, line)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(step, range(8)))
    assert sinks == [[("info", f"{number} {line}") for line in range(100)] for number in range(8)]


def test_an_error_inside_ends_the_capture(entries: Entries) -> None:
    """A step that raises has its last words kept, and the exception comes through."""

    def step() -> None:
        print("last words", end="")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), captured(entries):
        step()
    assert entries == [("info", "last words")]


def test_a_sink_that_raises(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """A log that cannot be written breaks no print: the text is on the screen, the error logged once."""

    def broken(_level: str, _text: str) -> None:
        raise OSError("disk full")

    with captured(broken):
        print("one")
        print("two", file=sys.stderr)
    assert capsys.readouterr() == ("one\n", "two\n")
    assert [(record.name, record.levelname) for record in caplog.records] == [("durably_nb", "ERROR")]


def test_a_sink_that_prints(
    entries: Entries, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What a listener of the log prints or logs goes where its own output goes, not round in a circle."""

    def talkative(level: str, text: str) -> None:
        entries(level, text)
        print("sink got", text)
        logging.getLogger("listener").warning("sink got %s", text)

    with captured(talkative):
        print("one")
    assert entries == [("info", "one")]
    assert capsys.readouterr().out == "sink got one\n"
    assert caplog.messages == ["sink got one"]


def test_a_sink_that_unwinds() -> None:
    """A sink may leave the step by an exception that is none of the user's to catch; all is put back."""

    def stop(_level: str, _text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), captured(stop):
        print("one")


def test_a_destructor_that_prints(entries: Entries) -> None:
    """An object that says goodbye when it is collected can do so in the middle of a print."""

    class Goodbye(str):
        __slots__ = ()

        def __radd__(self, other: str) -> str:
            print("goodbye")
            return other + str(self)

    with captured(entries):
        sys.stdout.write(Goodbye("hello\n"))
    assert entries == [("info", "goodbye"), ("info", "hello")]


# --- logging and warnings ---


def test_log_records_by_their_level(entries: Entries, logger: logging.Logger) -> None:
    """Records keep their level; those the user's configuration drops are dropped."""
    with captured(entries):
        logger.debug("debug")
        logger.info("info %d", 1)
        logger.warning("warning")
        logger.error("error")
        logger.critical("critical")
    assert entries == [
        ("info", "info 1"),
        ("warn", "warning"),
        ("error", "error"),
        ("error", "critical"),
    ]


def test_log_records_with_a_traceback(entries: Entries, logger: logging.Logger) -> None:
    """A logged exception is one entry with its traceback."""
    with captured(entries):
        try:
            _ = 1 / 0
        except ZeroDivisionError:
            logger.exception("failed")
    [(level, text)] = entries
    assert level == "error"
    assert text.startswith("failed\nTraceback ")
    assert text.endswith("ZeroDivisionError: division by zero")


def test_log_records_that_cannot_be_formatted(entries: Entries, logger: logging.Logger) -> None:
    """A record whose arguments do not fit is told as it is, and breaks nothing."""
    with captured(entries):
        logger.warning("%d files", "three")
    assert entries == [("warn", "'%d files' % ('three',)")]


def test_handlers_on_the_screen_are_silent(
    entries: Entries, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """A handler that writes to the cell is silent for captured records, and for no others."""
    for stream in (sys.stdout, sys.stderr):
        logger.addHandler(logging.StreamHandler(stream))
    with captured(entries):
        logger.addHandler(logging.StreamHandler())
        logger.warning("captured")
    assert (entries, capsys.readouterr()) == ([("warn", "captured")], ("", ""))
    logger.warning("as ever")
    assert capsys.readouterr() == ("as ever\n", "as ever\nas ever\n")


def test_handlers_elsewhere_are_still_told(
    entries: Entries, logger: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log file still gets every record, and a handler that prints does not double the entry."""

    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print("printed", record.getMessage())

    handler = logging.FileHandler(tmp_path / "log.txt")
    logger.addHandler(handler)
    logger.addHandler(Printing())
    with captured(entries):
        logger.warning("told")
    handler.close()
    assert (tmp_path / "log.txt").read_text() == "told\n"
    assert (entries, capsys.readouterr().out) == ([("warn", "told")], "")


def test_loggers_without_handlers(entries: Entries, logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that no handler takes is not printed by the handler of last resort."""
    with captured(entries):
        logger.warning("alone")
    assert (entries, capsys.readouterr().err) == ([("warn", "alone")], "")


def test_warnings_are_one_entry(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning is one entry that says where it comes from; the user's filters still hold."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", DeprecationWarning)
        with captured(entries):
            warnings.warn("mind this", stacklevel=1)
            warnings.warn("not this", DeprecationWarning, stacklevel=1)
    [(level, text)] = entries
    assert level == "warn"
    assert text.startswith(f"UserWarning: mind this ({__file__}:")
    assert capsys.readouterr().err == ""


def test_warnings_that_are_errors_or_recorded(entries: Entries) -> None:
    """A step that makes warnings errors, or records them, gets them itself."""
    with captured(entries), warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        warnings.warn("recorded", stacklevel=1)
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="raised"):
            warnings.warn("raised", stacklevel=1)
    assert (entries, [str(each.message) for each in recorded]) == ([], ["recorded"])


def test_warnings_sent_to_logging(entries: Entries) -> None:
    """Warnings that the user has sent to logging are told once."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        try:
            with captured(entries):
                warnings.warn("once", stacklevel=1)
        finally:
            logging.captureWarnings(capture=False)
    assert len(entries) == 1


# --- threads, tasks, processes ---


def test_threads_of_the_step(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """Threads and pools that a step starts, and those that they start, belong to it; subclasses too."""

    class Own(threading.Thread):
        def run(self) -> None:
            in_thread(lambda: print("a thread of a thread"))

    with captured(entries):
        in_thread(lambda: print("a thread", end=""))
        own = Own()
        own.start()
        own.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(print, "a pool").result()
    assert entries == [("info", "a thread"), ("info", "a thread of a thread"), ("info", "a pool")]
    assert capsys.readouterr().out == ""


def test_threads_of_the_step_begin_with_its_variables(entries: Entries) -> None:
    """A thread gets the variables that belong to the step from the thread that starts it, and no others."""
    ours: ContextVar[str] = ContextVar("ours", default="")
    theirs: ContextVar[str] = ContextVar("theirs", default="")
    seen = []

    def look() -> None:
        seen.append((ours.get(), theirs.get()))
        decimal.getcontext().prec = 3
        ours.set("of the thread")

    with captured(entries, ours), decimal.localcontext(prec=50):
        ours.set("of the step")
        theirs.set("of the user")
        in_thread(lambda: in_thread(look))
        assert (ours.get(), decimal.getcontext().prec) == ("of the step", 50)
    in_thread(look)
    assert seen == [("of the step", ""), ("", "")]


def test_threads_of_a_step_speak_in_its_name(d: dn.Durably) -> None:
    """What the threads of a step print and log names the step; those of the job function name none."""

    def load(step: dn.StepContext) -> None:
        in_thread(lambda: print("printed"))
        in_thread(lambda: step.log.info("logged"))

    @d.job
    def work(step: dn.StepContext) -> None:
        in_thread(lambda: print("before"))
        step.run("load", load, step)
        in_thread(lambda: print("after"))

    run = work.trigger()
    run.result(timeout=20)
    logs = run.logs()
    steps = [name if isinstance(name, str) else None for name in logs["step_name"]]
    said = list(zip(logs["message"], steps, strict=True))
    assert said == [("before", None), ("printed", "load"), ("logged", "load"), ("after", None)]


def test_a_step_in_a_thread_of_a_step_is_refused(d: dn.Durably) -> None:
    """Steps are not nested by way of a thread either."""
    refusals: list[str] = []

    def outer(step: dn.StepContext) -> None:
        def inner() -> None:
            try:
                step.run("inner", str)
            except dn.ConflictError as error:
                refusals.append(str(error))

        in_thread(inner)

    @d.job
    def work(step: dn.StepContext) -> None:
        step.run("outer", outer, step)

    work.trigger().result(timeout=20)
    assert [refusal.partition(". ")[0] for refusal in refusals] == ["Step 'inner' was started inside step 'outer'"]


def test_a_thread_that_outlives_its_step(d: dn.Durably) -> None:
    """When its step is over, a thread speaks for the run alone and may start steps of it."""

    @d.job
    def work(step: dn.StepContext) -> str:
        def go_on() -> None:
            over.wait()
            print("late")
            results.append(step.run("second", lambda: "done"))

        over, results, thread = threading.Event(), list[str](), threading.Thread(target=go_on)
        step.run("first", thread.start)
        over.set()
        thread.join()
        return results[0]

    run = work.trigger()
    assert run.result(timeout=20) == "done"
    logs = run.logs()
    assert list(logs["message"]) == ["late"]
    assert logs["step_name"].isna().all()


def test_a_thread_that_outlives_the_step(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """What a thread prints after the end of its step is neither lost nor an error."""
    over, started = threading.Event(), threading.Event()

    def linger() -> None:
        write = sys.stdout.write
        print("in time", end="")
        started.set()
        over.wait()
        print("late")
        write("later\n")
        logging.getLogger("late").warning("not captured")

    with captured(entries):
        thread = threading.Thread(target=linger)
        thread.start()
        started.wait()
    over.set()
    thread.join()
    assert (entries, capsys.readouterr().out) == ([("info", "in time")], "late\nlater\n")


def test_a_thread_that_outlives_an_inner_capture(entries: Entries) -> None:
    """When the inner of two captures ends, its threads belong to the outer one."""
    over = threading.Event()
    inner = Entries()

    def linger() -> None:
        over.wait()
        print("late")

    with captured(entries):
        with captured(inner):
            thread = threading.Thread(target=linger)
            thread.start()
        over.set()
        thread.join()
    assert (entries, inner) == ([("info", "late")], [])


def test_a_thread_that_fails(entries: Entries, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of a thread that dies is in the log of its step; the exception hook is the user's."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    with captured(entries):
        in_thread(lambda: 1 / 0)
        in_thread(sys.exit)
    assert entries[0][1].startswith("Exception in thread ")
    assert entries[-1] == ("warn", "ZeroDivisionError: division by zero")


def test_lines_of_threads_do_not_mix(entries: Entries) -> None:
    """Threads that print pieces of lines at the same time each get whole lines."""
    together = threading.Barrier(4)

    def work(number: int) -> None:
        together.wait()
        for _ in range(200):
            print(number, number, number)

    with captured(entries), ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert sorted(entries) == sorted([("info", f"{n} {n} {n}") for n in range(4)] * 200)


def test_tasks_of_the_step(entries: Entries, capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks that a step starts belong to it; others on the same loop do not, in between or otherwise."""
    other = Entries()

    async def step(sink: Entries, name: str) -> None:
        with captured(sink):
            print(name, "begins")
            await asyncio.gather(speak(name), asyncio.to_thread(print, name, "in a thread"))

    async def speak(name: str) -> None:
        await asyncio.sleep(0)
        print(name, "in a task")

    async def main() -> None:
        await asyncio.gather(step(entries, "one"), step(other, "two"), speak("none"))

    asyncio.run(main())
    expected = ["begins", "in a task", "in a thread"]
    assert sorted(text for _, text in entries) == [f"one {each}" for each in expected]
    assert sorted(text for _, text in other) == [f"two {each}" for each in expected]
    assert capsys.readouterr().out == "none in a task\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_prints_to_the_screen() -> None:
    """A process forked inside a step has no log to write to: it prints, and the parent's log is whole."""
    script = """
import os, sys, warnings
from durably_nb.capture import captured
warnings.simplefilter("ignore", DeprecationWarning)
entries = []
with captured(lambda level, text: entries.append(text)):
    print("parent ", end="")
    child = os.fork()
    if child == 0:
        print("child", flush=True)
    else:
        os.waitpid(child, 0)
        print("goes on")
if child:
    print(entries)
else:
    assert entries == []
"""
    assert run_script(script) == "child\n['parent goes on']\n"


def test_interpreter_exit_inside_a_capture() -> None:
    """A program that ends while a daemon thread is inside a capture ends in peace."""
    script = """
import atexit, threading
from durably_nb.capture import captured
inside = threading.Event()
def work():
    with captured(lambda level, text: None):
        inside.set()
        while True:
            print("busy")
threading.Thread(target=work, daemon=True).start()
inside.wait()
atexit.register(print, "at exit")
print("main")
"""
    assert run_script(script) == "main\nat exit\n"


def run_script(script: str) -> str:
    done = subprocess.run(  # noqa: S603 - a script of this file
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.stderr == ""
    return done.stdout


# --- notebooks ---


class Notebook:
    """A real kernel; what a cell shows is what a front end would get."""

    def __init__(self, client: BlockingKernelClient) -> None:
        """Talk to the kernel of this client."""
        self._client = client

    def run(self, code: str) -> list[str]:
        """Run a cell to its end; give its outputs in order, text of one stream joined."""
        outputs: list[tuple[str, str]] = []
        reply = self._client.execute_interactive(
            code, timeout=60, output_hook=lambda message: self._note(outputs, message)
        )
        assert reply["content"]["status"] == "ok", outputs
        return [f"{kind}: {text}" for kind, text in outputs]

    @staticmethod
    def _note(outputs: list[tuple[str, str]], message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            kind, text = content["name"], content["text"]
            if outputs and outputs[-1][0] == kind:
                outputs[-1] = (kind, outputs[-1][1] + text)
            else:
                outputs.append((kind, text))
        elif message["msg_type"] in {"display_data", "execute_result"}:
            outputs.append((message["msg_type"], content["data"]["text/plain"]))
        elif message["msg_type"] in {"clear_output", "error"}:
            outputs.append((message["msg_type"], str(content)))


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        book = Notebook(client)
        book.run(NOTEBOOK)
        yield book
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


NOTEBOOK = """
import logging, sys, threading, warnings
from IPython.display import clear_output, display
from durably_nb.capture import captured

early = logging.StreamHandler()
logger = logging.getLogger("of the step")
logger.addHandler(early)
original = sys.stdout, sys.stderr

def speak():
    print("print")
    print("stderr", file=sys.stderr, flush=True)
    logger.warning("logging")
    warnings.warn("warning")
    display({"displayed": 1})
    clear_output()

class Step(threading.Thread):
    def __init__(self):
        super().__init__()
        self.entries, self.inside, self.go = [], threading.Event(), threading.Event()

    def run(self):
        with captured(lambda level, text: self.entries.append((level, text.partition(" (")[0]))):
            self.inside.set()
            self.go.wait()
            speak()
            inner = threading.Thread(target=speak)
            inner.start()
            inner.join()
"""
SPOKEN = [
    ("info", "print"),
    ("warn", "stderr"),
    ("warn", "logging"),
    ("warn", "UserWarning: warning"),
    ("info", "{'displayed': 1}"),
]


def test_a_step_beside_a_cell(notebook: Notebook) -> None:
    """A step that speaks while another cell runs is heard in no cell; the cells speak as ever."""
    begin = notebook.run("print('begin'); step = Step(); step.start(); step.inside.wait(); print('begun')")
    assert begin == ["stdout: begin\nbegun\n"]
    beside = notebook.run("print('before'); step.go.set(); step.join(); print('after'); display('shown'); 42")
    assert beside == ["stdout: before\nafter\n", "display_data: 'shown'", "execute_result: 42"]
    assert notebook.run("print('out')") == ["stdout: out\n"]
    after = notebook.run("print('err', file=sys.stderr); logger.warning('logged')")
    assert after == ["stderr: err\nlogged\n"]
    assert notebook.run("(sys.stdout, sys.stderr) == original") == ["execute_result: True"]
    [printed] = notebook.run("import json; print(json.dumps(step.entries))")
    heard = json.loads(printed.removeprefix("stdout: "))
    again = [entry for entry in SPOKEN if "UserWarning" not in entry[1]]  # Python says a warning once a place
    assert [tuple(each) for each in heard] == SPOKEN + again


def test_a_step_in_the_cell_itself(notebook: Notebook) -> None:
    """A step that runs in the cell is heard in its log only; the cell speaks before and after it."""
    assert notebook.run(
        "entries = []\n"
        "print('before')\n"
        "with captured(lambda level, text: entries.append(text)):\n"
        "    print('inside'); display('inside'); clear_output()\n"
        "print('after', entries)"
    ) == ["stdout: before\nafter ['inside', \"'inside'\"]\n"]
    assert notebook.run("print('next')") == ["stdout: next\n"]


def test_cell_magic_capture(notebook: Notebook) -> None:
    """A cell under ``%%capture`` keeps its own output while a step begins and ends beside it."""
    notebook.run("step = Step(); step.start(); step.inside.wait()")
    cell = "%%capture kept\nprint('kept')\nother = Step(); other.start(); other.inside.wait()"
    assert notebook.run(cell) == []
    assert notebook.run("other.go.set(); other.join(); step.go.set(); step.join(); kept.stdout") == [
        "execute_result: 'kept\\n'"
    ]
    assert notebook.run("print((sys.stdout, sys.stderr) == original)") == ["stdout: True\n"]


def test_an_asynchronous_step(notebook: Notebook) -> None:
    """A step awaited in a cell is heard in its log only, and its neighbour on the loop in the cell."""
    assert notebook.run(
        "import asyncio\n"
        "entries = []\n"
        "async def step():\n"
        "    with captured(lambda level, text: entries.append(text)):\n"
        "        print('step'); await asyncio.sleep(0); display('step')\n"
        "async def cell():\n"
        "    print('cell'); await asyncio.sleep(0); print('cell')\n"
        "_ = await asyncio.gather(step(), cell())\n"
        "print(entries)"
    ) == ["stdout: cell\ncell\n['step', \"'step'\"]\n"]
