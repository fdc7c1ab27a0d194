-- claim: lend the heads of these queues' lines, in the order of the queues. Nothing is lent while time has work to do
-- (flag 1), or a gated job is among them (flag 2): the driver comes back with more questions. The flags are the last row.
-- Ids are looked up as an array: joined, a planner without statistics reads the whole namespace for every batch.
WITH late AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND due <= {now} AND due > to_timestamp(%(due_floor)s::float8))
        OR (%(places)s::int > 0 AND EXISTS (
            SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND line = 2 AND queue = ANY(%(queues)s::text[])
               AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = jobs.queue)))
        OR (%(sweep)s::boolean AND EXISTS (
            SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND state = 'running' AND lease_end <= {now}
               AND token >= %(token_floor)s::bigint)) AS yes
), picked AS MATERIALIZED (
    SELECT j.id, j.gated
    FROM unnest(%(queues)s::text[]) AS q(name)
    CROSS JOIN LATERAL (
        SELECT id, gated FROM {schema}.jobs
        WHERE ns = %(ns)s AND queue = q.name AND line = 1 AND (rank, seq) > (%(rank_floor)s::smallint, %(seq_floor)s::bigint)
        ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE NOT (SELECT yes FROM late)
      AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = q.name)
    LIMIT %(limit)s::int
), lent AS (
    UPDATE {schema}.jobs AS j
    SET state = 'running', line = 0, attempt = j.attempt + 1, settled = false, started_at = {now},
        lease_end = {now} + %(lease)s::float8 * interval '1 second',
        token = greatest(coalesce(j.token, 0) + 1, {token})
    WHERE j.ns = %(ns)s AND j.id = ANY(ARRAY(SELECT id FROM picked)) AND NOT EXISTS (SELECT 1 FROM picked WHERE gated)
    RETURNING j.rank, j.seq, j.id, j.queue, j.type, j.body, j.extra, j.attempt, j.generation, j.recovered, j.token
)
SELECT rank, seq, id::text, queue, type, body, extra, attempt, generation, recovered, token FROM lent
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       (SELECT yes FROM late)::int + CASE WHEN EXISTS (SELECT 1 FROM picked WHERE gated) THEN 2 ELSE 0 END, NULL, NULL, NULL
