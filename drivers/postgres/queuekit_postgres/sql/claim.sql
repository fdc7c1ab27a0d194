-- claim: lend the heads of these queues' lines, in the order of the queues. Nothing is lent while time has work to do
-- (flag 1), or a gated job is among them (flag 2): the driver comes back with more questions. Flag 4: more was locked than
-- lent, and whoever passed over it must look again. The flags are the last row.
-- Each line is read in stretches of ranks, each from its floor on: what lies below is gone (floors.py).
-- Ids are looked up as an array: joined, a planner without statistics reads the whole namespace for every batch.
WITH late AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND due <= {now} AND due > to_timestamp(%(due_floor)s::float8))
        OR (%(places)s::int > 0 AND EXISTS (
            SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND line = 2 AND queue = ANY(%(queues)s::text[])
               AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = jobs.queue)))
        OR (%(sweep)s::boolean AND EXISTS (
            SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND state = 'running' AND lease_end <= {now}
               AND started_at > to_timestamp(%(started_floor)s::float8))) AS yes
), fresh AS MATERIALIZED (
    SELECT q.place, j.rank, j.seq, j.id, j.gated
    FROM unnest(%(names)s::text[], %(places_of)s::int[], %(ranks)s::smallint[], %(floors)s::bigint[], %(belows)s::smallint[])
        AS q(name, place, rank, floor, below)
    CROSS JOIN LATERAL (
        SELECT id, gated, rank, seq FROM {schema}.jobs
        WHERE ns = %(ns)s AND queue = q.name AND line = 1 AND (rank, seq) > (q.rank, q.floor) AND rank < q.below
        ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE NOT (SELECT yes FROM late)
      AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = q.name)
    LIMIT %(limit)s::int
), returned AS MATERIALIZED (
    SELECT q.place::int, j.rank, j.seq, j.id, j.gated
    FROM unnest(%(queues)s::text[]) WITH ORDINALITY AS q(name, place)
    CROSS JOIN LATERAL (
        SELECT id, gated, rank, seq FROM {schema}.jobs
        WHERE ns = %(ns)s AND queue = q.name AND line = 3 ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE NOT (SELECT yes FROM late)
      AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = q.name)
    LIMIT %(limit)s::int
), picked AS MATERIALIZED (
    SELECT id, gated FROM (SELECT * FROM fresh UNION ALL SELECT * FROM returned) AS both_lines
    ORDER BY place, rank, seq LIMIT %(limit)s::int
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
       (SELECT yes FROM late)::int + CASE WHEN EXISTS (SELECT 1 FROM picked WHERE gated) THEN 2 ELSE 0 END
       + CASE WHEN (SELECT count(*) FROM fresh) + (SELECT count(*) FROM returned) > %(limit)s::int THEN 4 ELSE 0 END, NULL, NULL, NULL
