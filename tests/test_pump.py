"""The pump: who draws what, when, and how often. Time is what the test says it is."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from durably_nb.widgets.pump import BUDGET, INTERVAL_S, Pump

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A clock that stands until the test moves it; in eighths and the like, so that sums are exact."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Turned(Pump):
    """A pump without a thread: the test turns it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.clock = clock

    def pass_time(self, seconds: float, *, ticks: int) -> None:
        """Let time pass, in so many ticks, and turn at each."""
        for _ in range(ticks):
            self.clock.now += seconds / ticks
            self.turn()


class Picture:
    """A drawing that keeps what it drew, and when."""

    def __init__(self, pump: Turned, on_draw: Callable[[], float | None] = lambda: None) -> None:
        self.pump = pump
        self.state = 0
        self.drawn: list[tuple[float, int]] = []
        self.on_draw = on_draw
        pump._cared_for[self] = 0.0  # as add() does, without the thread

    def draw(self) -> float | None:
        self.drawn.append((self.pump.clock.now - 1000, self.state))
        return self.on_draw()

    def change(self) -> None:
        """Make it stale."""
        self.state += 1
        self.pump.note(self)


@pytest.fixture
def pump() -> Turned:
    """A pump that the test turns."""
    return Turned(Clock())


# --- one drawing ---


def test_the_first_change_is_drawn_at_once(pump: Turned) -> None:
    """Nobody waits for the first sign of life, and nothing is drawn before it."""
    picture = Picture(pump)
    pump.turn()
    assert picture.drawn == []
    picture.change()
    pump.turn()
    assert picture.drawn == [(0, 1)]


def test_a_drawing_is_made_at_most_ten_times_a_second(pump: Turned) -> None:
    """However often it changes, ten times a second is what people see; the last state is always drawn."""
    picture = Picture(pump)
    for _ in range(1024):
        picture.change()
        pump.pass_time(2 / 1024, ticks=1)
    pump.pass_time(INTERVAL_S, ticks=1)
    moments = [moment for moment, _ in picture.drawn]
    assert 19 <= len(moments) <= 21
    assert all(later - earlier >= INTERVAL_S for earlier, later in pairwise(moments))
    assert picture.drawn[-1][1] == 1024
    pump.pass_time(5, ticks=50)
    assert len(picture.drawn) == len(moments), "what did not change is not drawn again"


def test_after_a_pause_a_change_is_drawn_at_once(pump: Turned) -> None:
    """The limit is between two drawings; it is no beat to wait for."""
    picture = Picture(pump)
    picture.change()
    pump.turn()
    pump.clock.now += 5.0625
    picture.change()
    pump.turn()
    assert picture.drawn == [(0, 1), (5.0625, 2)]


def test_a_drawing_may_ask_for_a_later_one(pump: Turned) -> None:
    """It is drawn again when it said, and sooner if it changes before; each asks anew."""
    wishes: list[float | None] = [4.0, 2.0, None]
    picture = Picture(pump, lambda: wishes.pop(0))
    picture.change()
    pump.pass_time(8, ticks=64)
    assert [moment for moment, _ in picture.drawn] == [0.125, 4.125, 6.125]

    wishes += [4.0, None]
    picture.drawn.clear()
    picture.change()
    pump.turn()
    pump.clock.now += 1
    picture.change()
    pump.pass_time(8, ticks=64)
    assert [(moment, state) for moment, state in picture.drawn] == [(8, 2), (9.125, 3)]


def test_a_wish_does_not_put_off_a_change(pump: Turned) -> None:
    """What changes while it is drawn is drawn again as soon as it may, whatever the drawing asked for."""
    wishes: list[float | None] = [60.0, None]

    def change_once() -> float | None:
        if len(wishes) == 2:
            picture.change()
        return wishes.pop(0)

    picture = Picture(pump, change_once)
    picture.change()
    pump.pass_time(1, ticks=8)
    assert picture.drawn == [(0.125, 1), (0.25, 2)]


# --- many ---


def test_a_hundred_drawings_share_the_budget(pump: Turned) -> None:
    """All together are drawn at most eighty times a second, and none is forgotten for the others."""
    pictures = [Picture(pump) for _ in range(100)]
    for _ in range(10 * 64):
        for picture in pictures:
            picture.change()
        pump.pass_time(1 / 64, ticks=1)
    moments = sorted(moment for picture in pictures for moment, _ in picture.drawn)
    for moment in moments:
        assert sum(moment <= other < moment + 1 for other in moments) <= BUDGET
    assert len(moments) >= 9 * BUDGET, "the budget is used"
    counts = Counter(len(picture.drawn) for picture in pictures)
    assert max(counts) - min(counts) <= 1, "all had the same share"
    pump.pass_time(3, ticks=192)
    assert {picture.drawn[-1][1] for picture in pictures} == {640}, "the last state of each is drawn"


def test_a_busy_drawing_does_not_keep_a_quiet_one_waiting(pump: Turned) -> None:
    """Eight that change all the time use up the budget; one that changes once is drawn soon all the same."""
    busy = [Picture(pump) for _ in range(8)]
    quiet = Picture(pump)
    for tick in range(1024):
        for picture in busy:
            picture.change()
        if tick == 500:
            quiet.change()
            noted = pump.clock.now - 1000
        pump.pass_time(1 / 128, ticks=1)
    assert quiet.drawn[0][0] - noted <= INTERVAL_S + 1 / 128


# --- what goes wrong ---


def test_a_drawing_that_raises_harms_no_other(pump: Turned, caplog: pytest.LogCaptureFixture) -> None:
    """Each failure is logged, with its reason; the others are drawn, and the broken one is tried when it changes."""

    def fail() -> None:
        message = "the front end is gone"
        raise OSError(message)

    broken, sound = Picture(pump, fail), Picture(pump)
    with caplog.at_level(logging.WARNING, "durably_nb"):
        for picture in broken, sound:
            picture.change()
        pump.pass_time(1, ticks=8)
        assert (len(broken.drawn), len(sound.drawn)) == (1, 1)
        [record] = caplog.records
        assert "run is not concerned" in record.getMessage()
        assert record.exc_info is not None
        assert str(record.exc_info[1]) == "the front end is gone"
        broken.change()
        pump.pass_time(1, ticks=8)
    assert len(broken.drawn) == 2


def test_one_complaint_is_made_of_what_fails_again_and_again(pump: Turned, caplog: pytest.LogCaptureFixture) -> None:
    """A log full of the same traceback helps nobody; when it was drawn meanwhile, another failure is news."""
    fails = [True, True, True, False, True]

    def maybe_fail() -> None:
        if fails.pop(0):
            raise OSError

    picture = Picture(pump, maybe_fail)
    complaints = []
    with caplog.at_level(logging.WARNING, "durably_nb"):
        while fails:
            picture.change()
            pump.pass_time(1, ticks=8)
            complaints.append(len(caplog.records))
    assert complaints == [1, 1, 1, 1, 2]


def test_what_is_removed_is_drawn_no_more(pump: Turned) -> None:
    """Not what was noted before, not what is noted later; unless it is to be drawn a last time."""
    gone, last = Picture(pump), Picture(pump)
    for picture in gone, last:
        picture.change()
    pump.remove(gone)
    pump.remove(last, last=True)
    for picture in gone, last:
        picture.change()
    pump.pass_time(2, ticks=16)
    assert (gone.drawn, last.drawn) == ([], [(0, 1)])
    pump.remove(gone)


def test_a_drawing_may_remove_itself_and_others(pump: Turned) -> None:
    """In the middle of being drawn, too: it is not drawn again, whatever it asks for."""

    def away() -> float:
        pump.remove(picture)
        pump.remove(other)
        return 0.5

    other = Picture(pump)
    picture = Picture(pump, away)
    picture.change()
    other.change()
    pump.pass_time(2, ticks=16)
    assert len(picture.drawn) == 1
    assert other.drawn == [(0.125, 1)], "it was taken for the same turn"
    picture.change()
    pump.pass_time(2, ticks=16)
    assert len(picture.drawn) == 1


# --- with its thread ---


class Seen:
    """A drawing that can be waited for."""

    def __init__(self) -> None:
        self.state: Any = None
        self.drawn: list[Any] = []
        self.threads: set[threading.Thread] = set()
        self.changed = threading.Condition()

    def draw(self) -> None:
        with self.changed:
            self.drawn.append(self.state)
            self.threads.add(threading.current_thread())
            self.changed.notify_all()

    def wait_for(self, state: Any) -> None:
        """Return when a state was drawn last."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.drawn[-1:] == [state], 20), self.drawn[-3:]


def threads() -> list[str]:
    """Give the names of the library's threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("durably")]


def join_pumps() -> None:
    """Wait for threads that nobody joined, as they waited for whoever did not."""
    for thread in threading.enumerate():
        if thread.name == "durably-pump":
            thread.join(20)


def test_the_thread_lives_while_there_is_something_to_draw() -> None:
    """It starts with the first drawing, serves all, ends with the last, and starts again."""
    pump = Pump()
    for _ in range(2):
        first, second = Seen(), Seen()
        pump.add(first)
        pump.add(second)
        pump.add(second)
        assert threads() == ["durably-pump"]
        for seen in first, second:
            seen.state = "here"
            pump.note(seen)
            seen.wait_for("here")
        assert first.threads == second.threads
        pump.remove(first)
        assert threads() == ["durably-pump"]
        pump.remove(second)
        assert threads() == []
        pump.remove(second)


def test_removing_waits_until_it_is_drawn() -> None:
    """After remove() nothing is drawn any more, also if a drawing had begun."""
    pump = Pump()
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    class Slow(Seen):
        def draw(self) -> None:
            begun.set()
            ended.append(go_on.wait(20))

    slow, other = Slow(), Seen()
    pump.add(slow)
    pump.add(other)
    pump.note(slow)
    assert begun.wait(20)
    removing = threading.Thread(target=pump.remove, args=[slow])
    removing.start()
    assert ended == []
    go_on.set()
    removing.join()
    assert ended == [True]
    pump.remove(other)


def test_a_drawing_may_remove_itself_on_another_thread() -> None:
    """Whoever turns the pump meanwhile does not wait for its thread, which waits for them."""
    pump = Pump()
    turned = threading.Event()

    class Leaving(Seen):
        def draw(self) -> None:
            pump.remove(self)

    leaving = Leaving()
    with pump._turning:  # the pump's own thread stands before its turn
        pump.add(leaving)
        pump.note(leaving)
        pump.turn()
        turned.set()
    assert turned.is_set()
    join_pumps()


def test_whoever_draws_may_draw_others_and_then_leave() -> None:
    """A drawing in which somebody waits for a run, and so turns the pump, can still be the last that is removed."""
    pump = Pump()

    class Waiting(Seen):
        def draw(self) -> None:
            pump.turn()
            pump.remove(self)

    waiting = Waiting()
    with pump._turning:  # the pump's own thread stands before its turn
        pump.add(waiting)
        pump.note(waiting)
        pump.turn()
        assert pump._cared_for == {}
    join_pumps()


def test_a_drawing_that_never_ends_hangs_nobody() -> None:
    """Who turns the pump meanwhile, or removes a drawing, goes on after a while: a wait, or the end of the program."""
    pump = Pump()
    begun, go_on = threading.Event(), threading.Event()

    class Stuck(Seen):
        def draw(self) -> None:
            begun.set()
            go_on.wait(20)

    stuck, other = Stuck(), Seen()
    pump.add(stuck)
    pump.add(other)
    pump.note(stuck)
    assert begun.wait(20)
    pump.note(other)
    pump.turn(early=True)
    pump.remove(other, last=True)
    pump.remove(stuck)
    assert not go_on.is_set()
    assert other.drawn == []
    go_on.set()
    join_pumps()


def test_no_change_is_slept_through() -> None:
    """Threads that note as fast as they can, in rounds: after each round the last state of every drawing is drawn."""
    pump = Pump()
    drawings = [Seen() for _ in range(4)]
    for drawing in drawings:
        pump.add(drawing)
    rounds = 6
    start = threading.Barrier(len(drawings) + 1)

    def change(drawing: Seen) -> None:
        for number in range(rounds):
            start.wait(20)
            for change in range(200):
                drawing.state = (number, change)
                pump.note(drawing)

    changing = [threading.Thread(target=change, args=[drawing]) for drawing in drawings]
    for thread in changing:
        thread.start()
    for number in range(rounds):
        start.wait(20)
        for drawing in drawings:
            drawing.wait_for((number, 199))
    for thread in changing:
        thread.join()
    for drawing in drawings:
        pump.remove(drawing)
    assert sum(len(drawing.drawn) for drawing in drawings) < len(drawings) * rounds * 20, "changes are drawn together"
