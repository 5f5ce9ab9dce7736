"""Tables and views as SQL, and the numbered migrations that make them.

Everything is in the schema `durably`, so that it can live in a user's own database. The log is the
only truth; its `data` is JSON in a plain column, since checking it would cost each commit a tenth.
`run_state` is its fold, kept for quick listing: `state` is the JSON of a `RunRecord`, the other
columns are what is filtered and sorted by. Times in tables are milliseconds since the epoch; views
give them as TIMESTAMPTZ.
"""

from __future__ import annotations

from typing import Final

NAME: Final = "durably"

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """
        create table log (
            sequence bigint not null,
            ms       bigint not null,
            run_id   varchar,
            type     varchar not null,
            data     varchar not null
        )
        """,
        """
        create table run_state (
            run_id           varchar primary key,
            job_name         varchar not null,
            status           varchar not null,
            created_sequence bigint not null,
            last_sequence    bigint not null,
            completed_ms     bigint,
            idempotency_key  varchar,
            labels           json not null,
            state            json not null
        )
        """,
        "create table meta (key varchar primary key, value varchar not null)",
    ),
)
"""Each migration brings the schema from one version to the next; version 0 is an empty database."""

VERSION: Final = len(MIGRATIONS)

VIEWS: Final[tuple[str, ...]] = (
    # run:leased keeps no input of its own (the run's trigger has it), run:delete no run to join.
    """
    create or replace view events as
    select
        log.sequence,
        make_timestamptz(log.ms * 1000) as timestamp,
        log.type,
        log.run_id,
        coalesce(run.job_name, log.data ->> 'jobName') as job_name,
        log.data ->> 'stepName' as step_name,
        try_cast(log.data ->> 'stepIndex' as integer) as step_index,
        to_microseconds(round((log.data ->> 'duration')::double * 1000)::bigint) as duration,
        log.data ->> 'error' as error,
        log.data ->> 'level' as level,
        log.data ->> 'message' as message,
        coalesce(run.labels, log.data -> 'labels') as labels,
        log.data::json as data
    from log
    left join run_state as run on run.run_id = log.run_id
    where not starts_with(log.type, 'store:')
    """,
    """
    create or replace view runs as
    select
        run_id,
        job_name,
        status,
        labels,
        state -> 'input' as input,
        state -> 'output' as output,
        nullif(concat_ws(': ', state ->> '$.failure.type', nullif(state ->> '$.failure.message', '')), '') as error,
        state ->> 'failed_step_name' as failed_step_name,
        (state ->> '$.progress.current')::double as progress_current,
        (state ->> '$.progress.total')::double as progress_total,
        state ->> '$.progress.message' as progress_message,
        (state ->> 'step_count')::bigint as step_count,
        state ->> 'lease_owner' as lease_owner,
        (state ->> 'lease_generation')::bigint as lease_generation,
        idempotency_key,
        state ->> 'concurrency_key' as concurrency_key,
        (state ->> 'created_at')::timestamptz as created_at,
        (state ->> 'started_at')::timestamptz as started_at,
        (state ->> 'completed_at')::timestamptz as completed_at,
        (state ->> 'completed_at')::timestamptz - (state ->> 'started_at')::timestamptz as duration,
        created_sequence
    from run_state
    """,
    # A step that was running when its lease was given up has no end: it was interrupted.
    """
    create or replace view steps as
    select
        execution.run_id,
        run.job_name,
        execution.step_name,
        execution.step_index,
        case
            when execution.ended is not null then execution.ended
            when run.status = 'leased' and (run.state ->> 'lease_generation')::bigint = execution.lease_generation
                then 'running'
            else 'interrupted'
        end as status,
        make_timestamptz(execution.started_ms * 1000) as started_at,
        make_timestamptz(execution.completed_ms * 1000) as completed_at,
        to_microseconds(
            round(coalesce(execution.duration_ms, execution.completed_ms - execution.started_ms) * 1000)::bigint
        ) as duration,
        execution.error,
        execution.output_type,
        execution.output_bytes,
        execution.lease_generation,
        execution.sequence
    from (
        select
            run_id,
            (data ->> 'generation')::bigint as lease_generation,
            data ->> 'stepName' as step_name,
            (data ->> 'stepIndex')::integer as step_index,
            any_value(case type
                when 'step:complete' then 'completed'
                when 'step:fail' then 'failed'
                when 'step:cancel' then 'cancelled'
            end) as ended,
            min(ms) filter (type = 'step:start') as started_ms,
            max(ms) filter (type <> 'step:start') as completed_ms,
            any_value((data ->> 'duration')::double) as duration_ms,
            any_value(data ->> 'error') as error,
            any_value(data ->> 'outputType') as output_type,
            any_value((data ->> 'outputBytes')::bigint) as output_bytes,
            min(sequence) as sequence
        from log
        where starts_with(type, 'step:') and (data ->> 'emitted') is null
        group by all
    ) as execution
    join run_state as run on run.run_id = execution.run_id
    """,
    """
    create or replace view logs as
    select
        log.sequence,
        make_timestamptz(log.ms * 1000) as timestamp,
        log.run_id,
        run.job_name,
        log.data ->> 'stepName' as step_name,
        log.data ->> 'level' as level,
        log.data ->> 'message' as message,
        log.data -> 'data' as data
    from log
    left join run_state as run on run.run_id = log.run_id
    where log.type = 'log:write'
    """,
)
"""Made anew at every open, so that a newer version of the library brings its own views."""
