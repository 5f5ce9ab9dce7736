"""SQL over the history, beside the user's own tables and DataFrames."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import duckdb
import pandas as pd
import pytest

import durably_nb as dn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

flights = pd.DataFrame({"carrier": ["AA", "UA"]})


@pytest.fixture
def run(d: dn.Durably) -> dn.Run:
    """A run that has completed, with one step and one line of log."""

    @d.job
    def load(step: dn.StepContext, month: int) -> int:
        step.log.info("loading", {"month": month})
        return step.run("load", lambda: month)

    run = load.options(labels={"team": "a"}).trigger(month=3)
    assert run.result(timeout=20) == 3
    return run


def test_the_four_views_are_tables_to_query(d: dn.Durably, run: dn.Run) -> None:
    """All that the frames show can be asked for in SQL, by short names."""
    assert d.sql("select count(*) from events").fetchall() == [(len(d.events()),)]
    assert d.sql("select run_id, status, output from runs").fetchall() == [(run.id, "completed", "3")]
    assert d.sql("select step_name, status from steps").fetchall() == [("load", "completed")]
    assert d.sql("select message, data ->> 'month' from logs").fetchall() == [("loading", "3")]
    counted = dict(d.sql("select type, count(*) from events group by all").fetchall())
    assert counted["run:complete"] == 1


def test_times_are_utc_and_spans_are_intervals(d: dn.Durably, run: dn.Run) -> None:
    """Times are typed, so that SQL can calculate with them, and they are those of the frames."""
    rows = d.sql("select timestamp, typeof(timestamp), typeof(duration) from events order by sequence").fetchall()
    assert {(kind, span) for _, kind, span in rows} == {("TIMESTAMP WITH TIME ZONE", "INTERVAL")}
    assert [moment for moment, _, _ in rows] == list(run.events()["timestamp"])
    assert rows[0][0].utcoffset().total_seconds() == 0


def test_a_relation_goes_on_as_any_of_duckdb(d: dn.Durably, run: dn.Run) -> None:
    """What sql gives can be filtered, joined, queried again and made a DataFrame of."""
    events = d.sql("from events")
    steps = events.filter("step_name = 'load'").order("sequence")
    assert [row[2] for row in steps.fetchall()] == ["step:start", "step:complete"]
    assert list(d.sql("select type from events order by sequence limit 1").df()["type"]) == ["run:trigger"]
    assert events.aggregate("count(*)").fetchall() == [(len(run.events()),)]


def test_results_do_not_stand_in_each_others_way(d: dn.Durably, run: dn.Run) -> None:
    """I may keep a large result unread, ask the next question, run the next job, and read it then."""
    numbers = d.sql("from range(100_000)")
    assert d.sql("select 42").fetchall() == [(42,)]
    assert len(d.events(run_id=run.id)) > 0
    again = d.jobs.load.trigger(month=4)
    assert again.result(timeout=20) == 4
    assert len(numbers.fetchall()) == 100_000


# --- tables of the user's own ---


def test_tables_of_my_own_live_in_the_same_file(path: Path) -> None:
    """I make tables, fill them and join them with the history; they are there when I open the file again."""
    with dn.open(path) as d:
        d.sql("create table carriers (code varchar, name varchar)")
        d.sql("insert into carriers values ('AA', 'American'), ('UA', 'United')")
        job = d.job(name="count")(lambda step, code: step.run("count", lambda: len(code)))
        job.trigger(code="AA").result(timeout=20)
        joined = d.sql(
            "select name from runs join carriers on code = (input ->> 'code') where status = 'completed'"
        ).fetchall()
        assert joined == [("American",)]
    with dn.open(path) as d:
        assert d.sql("select count(*) from carriers").fetchall() == [(2,)]
        assert d.cursor().execute("select count(*) from carriers").fetchall() == [(2,)]


def test_my_table_shadows_a_view_of_its_name(d: dn.Durably, run: dn.Run) -> None:
    """A table of mine that is called `events` is mine; the library's is then durably.events."""
    for name in ("events", "runs", "steps", "logs", "log", "run_state", "meta"):
        d.sql(f"create table {name} as select 42 as mine")
        assert d.sql(f"from {name}").fetchall() == [(42,)]
    assert d.sql("select count(*) from durably.events").fetchall() == [(len(d.events()),)]
    assert [len(frame) for frame in (d.runs(), d.steps(), d.logs())] == [1, 1, 1]
    assert [one.id for one in d.get_runs()] == [run.id]
    assert d.jobs.load.trigger(month=5).result(timeout=20) == 5
    assert run.step_output("load") == 3


def test_a_view_of_mine_over_the_history(path: Path) -> None:
    """A view of my own over the library's views works, and still does after a reopen."""
    with dn.open(path) as d:
        d.sql("create view ended as select run_id from durably.runs where completed_at is not null")
        job = d.job(name="short")(lambda step: step.run_id)
        run_id = job.trigger().result(timeout=20)
        assert d.sql("from ended").fetchall() == [(run_id,)]
    with dn.open(path) as d:
        assert d.sql("from ended").fetchall() == [(run_id,)]


# --- DataFrames in scope ---


def test_a_dataframe_of_the_module_is_found(d: dn.Durably) -> None:
    """A DataFrame of a cell is a table by its variable's name."""
    assert d.sql("select count(*) from flights").fetchall() == [(len(flights),)]


def test_a_dataframe_of_a_function_is_found(d: dn.Durably, run: dn.Run) -> None:
    """Inside a function of mine its own DataFrames are found, called `df` or like anything of sql's own."""
    df = pd.DataFrame({"n": [1, 2, 3]})
    assert d.sql("select sum(n) from df").fetchall() == [(df["n"].sum(),)]
    query = params = self = store = cursor = path = catalog = df
    assert query is params is self is store is cursor is path is catalog
    for name in ("query", "params", "self", "store", "cursor", "path", "catalog"):
        assert d.sql(f"select max(n) from {name}").fetchall() == [(3,)]  # noqa: S608 - the names above
    assert d.sql("select n from df, runs where status = 'completed' and n > ?", [2]).fetchall() == [(3,)]
    assert run.is_terminal


def test_a_dataframe_of_an_enclosing_call_is_found(d: dn.Durably) -> None:
    """A helper that asks sees the DataFrames of whoever called it."""
    outer = pd.DataFrame({"n": [7]})

    def ask() -> list[Any]:
        return d.sql("from outer_frame").fetchall()

    def caller() -> list[Any]:
        outer_frame = outer
        assert len(outer_frame) == 1
        return ask()

    assert caller() == [(7,)]


@pytest.mark.skipif(duckdb.__version__ < "2", reason="DuckDB 1.x refuses relations of another connection, and says so")
def test_a_relation_is_a_table_too(d: dn.Durably, run: dn.Run) -> None:
    """A query over the result of a query, by its variable's name."""
    mine = d.sql("from events where type like 'step:%'")
    assert d.sql("select count(*) from mine").fetchall() == [(2,)]
    assert mine.columns[0] == "sequence"
    assert run.is_terminal


# --- parameters and mistakes ---


def test_parameters_are_values(d: dn.Durably, run: dn.Run) -> None:
    """Positional and named parameters are compared, whatever they say."""
    assert d.sql("select count(*) from runs where run_id = ?", [run.id]).fetchall() == [(1,)]
    assert d.sql("select count(*) from runs where run_id = $id", {"id": run.id}).fetchall() == [(1,)]
    assert d.sql("select count(*) from runs where job_name = ?", ("' or 1=1 --",)).fetchall() == [(0,)]
    assert d.sql("select ?::varchar", ["a\0b 🦆"]).fetchall() == [("a\0b 🦆",)]


@pytest.mark.parametrize("query", ["", "  \n", None, 5, b"select 1"])
def test_a_query_is_text(d: dn.Durably, query: Any) -> None:
    """What is no query is refused with an example."""
    with pytest.raises(dn.ValidationError, match="takes a query as text"):
        d.sql(query)


@pytest.mark.parametrize(
    ("query", "params", "error"),
    [
        ("selec 1", None, duckdb.ParserException),
        ("from nowhere", None, duckdb.CatalogException),
        ("select no_column from events", None, duckdb.BinderException),
        ("select ?", None, duckdb.Error),
        ("select $a", {"b": 1}, duckdb.InvalidInputException),
        ("select '\ud800'", None, (duckdb.Error, UnicodeError)),
        ("select ?", ["\ud800"], (duckdb.Error, RuntimeError)),
        ("select cast('x' as integer)", None, duckdb.ConversionException),
    ],
)
def test_mistakes_in_sql_are_told_by_duckdb(
    d: dn.Durably, still_good: Callable[[], None], query: str, params: Any, error: Any
) -> None:
    """A wrong query says what DuckDB says of it, and harms nothing."""
    with pytest.raises(error):
        d.sql(query, params).fetchall()
    assert d.sql("select 1").fetchall() == [(1,)]
    d.close()
    still_good()


# --- cursors ---


def test_each_thread_has_a_cursor_of_its_own(d: dn.Durably) -> None:
    """In one thread always the same cursor, in another another; all see one database."""
    d.cursor().execute("create table t (n integer)")
    others: list[duckdb.DuckDBPyConnection] = []

    def write(number: int) -> None:
        others.append(d.cursor())
        d.cursor().execute("insert into t values (?)", [number])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert d.cursor() is d.cursor()
    assert len({id(one) for one in [*others, d.cursor()]}) == 9
    assert sorted(d.cursor().execute("from t").fetchall()) == [(number,) for number in range(8)]


def test_temporary_tables_and_transactions_are_my_cursors(d: dn.Durably) -> None:
    """What lasts from one statement to the next belongs to my cursor; sql answers each query on its own."""
    cursor = d.cursor()
    cursor.execute("create temp table t as select 1 as n")
    assert d.cursor().execute("from t").fetchall() == [(1,)]
    with pytest.raises(duckdb.CatalogException):
        d.sql("from t")


def test_a_cursor_that_i_closed_is_replaced(d: dn.Durably) -> None:
    """Closing my cursor, as good manners have it, breaks nothing."""
    d.cursor().close()
    assert d.cursor().execute("select 1").fetchall() == [(1,)]
    assert len(d.events()) == 0


def test_what_i_set_on_my_cursor_is_mine_alone(d: dn.Durably, run: dn.Run) -> None:
    """A time zone, a schema and a search path of mine change neither the history nor what runs."""
    cursor = d.cursor()
    cursor.execute("set TimeZone = 'Asia/Tokyo'")
    cursor.execute("create schema elsewhere")
    cursor.execute("use elsewhere")
    cursor.execute("create table here (n integer)")
    assert str(d.events()["timestamp"].dtype) == "datetime64[us, UTC]"
    assert d.sql("select count(*) from runs").fetchall() == [(1,)]
    assert d.jobs.load.trigger(month=6).result(timeout=20) == 6
    assert cursor.execute("from here").fetchall() == []
    assert run.is_terminal


def test_an_open_transaction_of_mine_does_not_stop_the_jobs(d: dn.Durably, run: dn.Run) -> None:
    """While I am in a transaction of my own, runs go on, and the history is current."""
    cursor = d.cursor()
    cursor.execute("create table t (n integer)")
    cursor.begin()
    cursor.execute("insert into t values (1)")
    assert d.jobs.load.trigger(month=7).result(timeout=20) == 7
    assert len(d.runs(status="completed")) == 2
    cursor.rollback()
    assert cursor.execute("from t").fetchall() == []
    assert run.is_terminal


def test_what_is_open_when_the_store_closes_is_no_trouble(path: Path, still_good: Callable[[], None]) -> None:
    """A relation and a cursor that I still hold keep nobody from opening the file again."""
    d = dn.open(path)
    relation, cursor = d.sql("from events"), d.cursor()
    d.close()
    still_good()
    with pytest.raises(duckdb.Error, match="closed"):
        cursor.execute("select 1")
    with pytest.raises(duckdb.Error, match="closed"):
        relation.fetchall()
