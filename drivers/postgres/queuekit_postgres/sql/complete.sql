-- settle: plain jobs that succeeded, for as long as their token is the newest.
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS g(id, token)
), gone AS (
    DELETE FROM {schema}.jobs AS j USING given AS g
    WHERE j.ns = %(ns)s AND j.id = g.id AND j.token = g.token AND j.state = 'running' AND j.extra IS NULL
    RETURNING j.*
)
INSERT INTO {schema}.history
    (seq, token, accepted_at, started_at, finished_at, forget_at, id, ns, drop_on, state, attempt, generation, rank, settled,
     queue, type, body, errors, percent, step)
SELECT seq, token, accepted_at, started_at, {now}, {now} + interval '1 day', id, ns,
       (({now} + interval '1 day') AT TIME ZONE 'UTC')::date, 'completed', attempt, generation, rank, true,
       queue, type, body, errors, percent, step
FROM gone
RETURNING id::text
