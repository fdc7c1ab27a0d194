-- settle: plain jobs that succeeded and returned something. The rows are found as in `complete`.
WITH mine AS MATERIALIZED (
    SELECT j.place
    FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS g(id, token)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, token, state, extra FROM {schema}.jobs WHERE ns = %(ns)s AND id = g.id LIMIT 1 FOR UPDATE
    ) AS j
    WHERE j.token = g.token AND j.state = 'running' AND j.extra IS NULL
), gone AS (
    DELETE FROM {schema}.jobs WHERE ctid = ANY(ARRAY(SELECT place FROM mine))
    RETURNING *, array_position(%(ids)s::uuid[], id) AS number
)
INSERT INTO {schema}.history
    (seq, token, accepted_at, started_at, finished_at, forget_at, id, ns, drop_on, state, attempt, generation, rank, settled,
     queue, type, body, errors, percent, step, result, result_error)
SELECT seq, token, accepted_at, started_at, {now}, {now} + interval '1 day', id, ns,
       (({now} + interval '1 day') AT TIME ZONE 'UTC')::date, 'completed', attempt, generation, rank, true,
       queue, type, body, errors, percent, step, (%(results)s::bytea[])[number], (%(result_errors)s::text[])[number]
FROM gone
RETURNING id::text
