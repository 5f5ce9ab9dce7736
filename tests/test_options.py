"""Options: given at the start, by a configuration, or changed while runs are under way."""

from __future__ import annotations

import enum
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pydantic
import pytest
import traitlets
from typing_extensions import TypedDict

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Heard, Program

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lease": 5}, "no option 'lease': did you mean 'lease_ms'"),
    ({"zzz": 5}, "no option 'zzz': the options are allow_pickle"),
    ({"config": 5}, "no option 'config'"),
    ({"x" * 1_000_000: 5}, "no option"),
    ({"lease_ms": "5"}, "lease_ms.*an int, not the str"),
    ({"lease_ms": 1.5}, "lease_ms.*an int, not the float"),
    ({"lease_ms": None}, "lease_ms.*an int"),
    ({"lease_ms": True}, "lease_ms is a whole number, not True"),
    ({"lease_ms": -5}, "lease_ms.*less than 10"),
    ({"lease_ms": 10**30}, "lease_ms.*greater than"),
    ({"polling_interval_ms": 0}, "polling_interval_ms"),
    ({"max_concurrent_runs": 0}, "max_concurrent_runs"),
    ({"max_concurrent_runs": 10**9}, "max_concurrent_runs"),
    ({"checkpoint": "lazy"}, "checkpoint.*'strict', 'pipelined'"),
    ({"capture_output": "no"}, "capture_output.*a boolean"),
    ({"preserve_steps": None}, "preserve_steps.*a boolean"),
    ({"allow_pickle": 2}, "allow_pickle.*a boolean"),
    ({"retain_runs": "1 month"}, 'retain_runs is a span such as "30d"'),
    ({"retain_runs": -1}, "retain_runs is a span"),
    ({"retain_runs": timedelta(-1)}, "retain_runs is a span of time from zero up"),
    ({"labels": 5}, "labels is a pydantic model or a TypedDict, not 5"),
    ({"labels": "Labels"}, "labels is a pydantic model or a TypedDict, not 'Labels'"),
    ({"labels": {"team": "a"}}, "labels is a pydantic model or a TypedDict, not"),
    ({"labels": threading.Lock().__class__}, "labels is a pydantic model or a TypedDict, not"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_an_option_that_cannot_be_meant_is_refused(path: Path, options: dict[str, Any], message: str) -> None:
    """A slip in an option is a sentence, before any file is made."""
    for make in (dn.Durably, dn.open):
        with pytest.raises(dn.ValidationError, match=message) as refused:
            make(path, **options)
        assert len(str(refused.value)) < 500
    assert not path.exists()


@pytest.mark.parametrize(("options", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_an_open_store_keeps_its_options(d: dn.Durably, path: Path, options: dict[str, Any], message: str) -> None:
    """Opening a store again with a wrong option changes none of them."""
    before = {name: getattr(d, name) for name in type(d).class_trait_names(config=True)}
    with pytest.raises(dn.ValidationError, match=message):
        dn.open(path, **{"polling_interval_ms": 77, **options})
    assert {name: getattr(d, name) for name in before} == before


def test_defaults_are_those_documented() -> None:
    """What DESIGN says of the options is so."""
    d = dn.Durably()
    assert {name: getattr(d, name) for name in type(d).class_trait_names(config=True)} == {
        "labels": None,
        "polling_interval_ms": 1000,
        "max_concurrent_runs": 1,
        "lease_ms": 30_000,
        "lease_renew_interval_ms": 5_000,
        "preserve_steps": True,
        "retain_runs": None,
        "checkpoint": "strict",
        "capture_output": True,
        "allow_pickle": False,
    }


def test_a_single_option_is_set_like_any_attribute(d: dn.Durably) -> None:
    """Assigning an option checks it as giving it does; a wrong value leaves the old one."""
    d.retain_runs = "30d"
    assert d.retain_runs == timedelta(days=30)
    for name, value in (("lease_ms", "x"), ("lease_ms", 5), ("checkpoint", "lazy"), ("max_concurrent_runs", 0)):
        before = getattr(d, name)
        with pytest.raises(traitlets.TraitError, match=name):
            setattr(d, name, value)
        assert getattr(d, name) == before


def test_the_longest_retention_keeps_everything(path: Path) -> None:
    """A span that goes back before all calendars is no mistake."""
    for span in ("999999d", timedelta.max):
        with dn.open(path, retain_runs=span) as d:
            d.job(name="one")(lambda step: step.run_id).trigger().result(timeout=20)
    with dn.open(path) as d:
        assert len(d.runs()) == 2


def test_opening_again_sets_what_is_given(d: dn.Durably, path: Path) -> None:
    """Running the cell again with another option changes that option of the same object."""
    assert dn.open(path, lease_ms=60_000) is d
    assert (d.lease_ms, d.polling_interval_ms) == (60_000, 1000)
    assert dn.open(path) is d
    assert d.lease_ms == 60_000


# --- changed while it runs ---


def waiting(d: dn.Durably, go: threading.Event) -> dn.Job:
    """Define a job that waits until the test lets it go."""
    return d.job(name="wait")(lambda step: step.run("wait", lambda: go.wait(20)))


def test_more_runs_at_once_from_now_on(d: dn.Durably, heard: Heard) -> None:
    """Raising max_concurrent_runs lets waiting runs begin, without a restart."""
    go = threading.Event()
    d.on("run:leased", heard)
    runs = waiting(d, go).batch_trigger([{}] * 3)
    heard.wait_for("run:leased")
    assert sorted(run.status for run in runs) == ["leased", "pending", "pending"]
    d.max_concurrent_runs = 3
    heard.wait_for("run:leased", 3)
    assert [run.status for run in runs] == ["leased"] * 3
    go.set()
    assert all(run.result(timeout=20) for run in runs)


def test_fewer_runs_at_once_from_now_on(d: dn.Durably, heard: Heard) -> None:
    """Lowering max_concurrent_runs stops no run; as they end, fewer follow."""
    d.max_concurrent_runs = 3
    first = threading.Event()
    d.on(["run:leased", "run:complete"], heard)
    runs = waiting(d, first).batch_trigger([{}] * 3)
    heard.wait_for("run:leased", 3)
    d.max_concurrent_runs = 1
    first.set()
    assert all(run.result(timeout=20) for run in runs)
    at_once: list[int] = []
    busy = threading.Semaphore(3)

    def count() -> None:
        with busy:
            at_once.append(busy._value)

    later = d.job(name="count")(lambda step: step.run("count", count)).batch_trigger([{}] * 6)
    assert [run.wait(timeout=20).status for run in later] == ["completed"] * 6
    assert set(at_once) == {2}


def test_a_worker_that_is_leaving_is_waited_for(path: Path) -> None:
    """A run that still executes when its worker is one too many is stopped with the others, and goes on later."""
    d = dn.open(path, max_concurrent_runs=2)
    begun = threading.Semaphore(0)

    @d.job
    def long(step: dn.StepContext, n: int) -> int:
        step.run("first", lambda: n)
        begun.release()
        while not step.signal.wait(20):
            pass
        step.throw_if_aborted()
        return n

    runs = long.batch_trigger([{"n": 1}, {"n": 2}])
    assert begun.acquire(timeout=20)
    assert begun.acquire(timeout=20)
    d.max_concurrent_runs = 1
    d.close_at_exit(1.0)
    with dn.open(path) as again:
        assert sorted(again.runs()["status"]) == ["pending", "pending"]
        again.job(name="long")(lambda step, n: step.run("first", lambda: 0) + n)
        found = [again.get_run(run.id) for run in runs]
        assert [run.result(timeout=20) for run in found if run is not None] == [2, 4]


def test_the_checkpoint_mode_holds_for_the_runs_that_begin(d: dn.Durably) -> None:
    """Switching between strict and pipelined changes no result."""
    job = d.job(name="count")(lambda step: [step.run(f"{n}", lambda n=n: n) for n in range(20)])
    for mode in ("pipelined", "strict", "pipelined"):
        d.checkpoint = mode
        run = job.trigger()
        assert run.result(timeout=20) == list(range(20))
        assert len(run.steps(status="completed")) == 20


def test_pickles_are_written_and_read_only_while_allowed(d: dn.Durably) -> None:
    """allow_pickle holds from the moment it is set, in both directions."""
    value = complex  # any class: only a pickle can keep one
    job = d.job(name="odd")(lambda step: step.run("odd", lambda: value))
    assert "SerializationError" in (job.trigger().wait(timeout=20).error or "")
    d.allow_pickle = True
    run = job.trigger()
    assert run.result(timeout=20) is value
    d.allow_pickle = False
    with pytest.raises(dn.SerializationError, match="allow_pickle"):
        run.step_output("odd")


def test_dropping_step_results_holds_for_the_runs_that_end(d: dn.Durably) -> None:
    """preserve_steps=False drops what steps returned when a run completes; the output stays."""
    job = d.job(name="two")(lambda step: step.run("one", lambda: 1) + step.run("two", lambda: 1))
    kept = job.trigger()
    assert kept.result(timeout=20) == 2
    d.preserve_steps = False
    dropped = job.trigger()
    assert dropped.result(timeout=20) == 2
    d.stop()
    assert kept.step_output("one") == 1
    with pytest.raises(dn.NotFoundError, match="preserve_steps=False"):
        dropped.step_output("one")


# --- label models ---


class Environment(enum.Enum):
    """Where something runs."""

    DEV = "dev"
    PROD = "prod"


class TeamModel(pydantic.BaseModel, extra="forbid"):
    """Labels that every run has."""

    team: str
    env: Environment = Environment.DEV
    ticket: str | None = None


class TeamDict(TypedDict, total=False):
    """The same as a TypedDict."""

    team: str
    env: Literal["dev", "prod"]


@pytest.mark.parametrize("model", [TeamModel, TeamDict])
def test_a_label_model_checks_labels(path: Path, model: type) -> None:
    """Labels that do not fit the model are refused with what does not fit, before anything is stored."""
    with dn.open(path, labels=model) as d:
        job = d.job(name="one")(lambda step: step.run_id)
        run = job.options(labels={"team": "a", "env": "prod"}).trigger()
        assert run.labels == {"team": "a", "env": "prod"}
        with pytest.raises(dn.ValidationError, match=rf"do not fit {model.__name__}: env: Input should be"):
            _ = job.options(labels={"team": "a", "env": "moon"}).trigger()
        with pytest.raises(dn.ValidationError, match="env"):
            job.batch_trigger([dn.Trigger({}, labels={"team": "a", "env": env}) for env in ("dev", "moon")])
        run.result(timeout=20)
        assert len(d.runs()) == 1


def test_a_label_model_fills_in_and_requires(path: Path) -> None:
    """Defaults of the model are labels of the run; what it requires must be given; None is no label."""
    with dn.open(path, labels=TeamModel) as d:
        job = d.job(name="one")(lambda step: step.run_id)
        assert job.options(labels={"team": "a"}).trigger_and_wait().labels == {"team": "a", "env": "dev"}
        with pytest.raises(dn.ValidationError, match="team: Field required"):
            _ = job.trigger()
        with pytest.raises(dn.ValidationError, match="owner: Extra inputs are not permitted"):
            _ = job.options(labels={"team": "a", "owner": "b"}).trigger()
        assert list(d.runs(labels={"env": "dev"})["labels"]) == [{"team": "a", "env": "dev"}]


def test_a_label_model_gives_strings(path: Path) -> None:
    """A model whose values are no strings says so at the first trigger."""

    class Numbered(pydantic.BaseModel):
        number: int

    with dn.open(path, labels=Numbered) as d:
        job = d.job(name="one")(lambda step: step.run_id)
        with pytest.raises(dn.ValidationError, match="The label 'number' is a string, not int"):
            _ = job.options(labels={"number": "5"}).trigger()


# --- an IPython configuration ---

CONFIGURED = """
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell

import durably_nb as dn

config = Config()
config.Durably.lease_ms = 60_000
config.Durably.checkpoint = "pipelined"
shell = InteractiveShell.instance(config=config)
d = dn.Durably(checkpoint="strict")
print(d.lease_ms, d.checkpoint, d.polling_interval_ms)
shell.config.Durably.max_concurrent_runs = "many"
try:
    dn.Durably()
except dn.ValidationError as error:
    print(str(error)[:72])
"""


@pytest.mark.slow
def test_an_ipython_configuration_sets_defaults(launch: Callable[..., Program]) -> None:
    """What c.Durably says in my IPython configuration holds, unless I say otherwise; a mistake in it is told."""
    pytest.importorskip("IPython")
    said = launch(CONFIGURED).finished().splitlines()
    assert said[0] == "60000 strict 1000"
    assert said[1].startswith("The configuration of Durably: The 'max_concurrent_runs' trait")
