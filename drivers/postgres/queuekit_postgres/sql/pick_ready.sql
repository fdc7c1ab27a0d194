-- claim: the head of a queue's line, with what its gates must know: of those that joined it when they were stored, above the
-- floors, and of those that came back, up to so many of each. A paused queue has none.
WITH fresh AS MATERIALIZED (
    SELECT j.*
    FROM unnest(%(ranks)s::smallint[], %(floors)s::bigint[], %(belows)s::smallint[]) AS q(rank, floor, below)
    CROSS JOIN LATERAL (
        SELECT rank, seq, id, gated, extra, head FROM {schema}.jobs
        WHERE ns = %(ns)s AND queue = %(queue)s AND line = 1 AND (rank, seq) > (q.rank, q.floor) AND rank < q.below
        ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
    ) AS j
    WHERE NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = %(queue)s)
    LIMIT %(limit)s::int
), returned AS MATERIALIZED (
    SELECT rank, seq, id, gated, extra, head FROM {schema}.jobs
    WHERE ns = %(ns)s AND queue = %(queue)s AND line = 3
      AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = %(queue)s)
    ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
)
SELECT id::text, %(queue)s::text, CASE WHEN gated THEN extra END, head
FROM (SELECT * FROM fresh UNION ALL SELECT * FROM returned) AS both_lines ORDER BY rank, seq
