-- settle: plain jobs that succeeded and returned something.
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(results)s::bytea[], %(result_errors)s::text[])
        AS g(id, token, result, result_error)
), gone AS (
    DELETE FROM {schema}.jobs AS j USING given AS g
    WHERE j.ns = %(ns)s AND j.id = g.id AND j.token = g.token AND j.state = 'running' AND j.extra IS NULL
    RETURNING j.*, g.result, g.result_error
)
INSERT INTO {schema}.history
    (seq, token, accepted_at, started_at, finished_at, forget_at, id, ns, drop_on, state, attempt, generation, rank, settled,
     queue, type, body, errors, percent, step, result, result_error)
SELECT seq, token, accepted_at, started_at, {now}, {now} + interval '1 day', id, ns,
       (({now} + interval '1 day') AT TIME ZONE 'UTC')::date, 'completed', attempt, generation, rank, true,
       queue, type, body, errors, percent, step, result, result_error
FROM gone
RETURNING id::text
