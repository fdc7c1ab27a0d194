-- outbox: jobs that stand in a line, of every queue that is not paused. The lines are read by their indexes, which hold nothing else: all that a transport
-- carries has left them.
SELECT id::text, queue, type, body, extra, rank FROM {schema}.jobs
WHERE ns = %(ns)s AND line > 0 AND id = ANY(ARRAY(
    SELECT id FROM (
        SELECT id, queue, rank, seq FROM {schema}.jobs WHERE ns = %(ns)s AND line = 1
        UNION ALL SELECT id, queue, rank, seq FROM {schema}.jobs WHERE ns = %(ns)s AND line = 2
        UNION ALL SELECT id, queue, rank, seq FROM {schema}.jobs WHERE ns = %(ns)s AND line = 3
    ) AS j
    WHERE NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = j.queue)
    ORDER BY rank, seq LIMIT %(limit)s::int
))
ORDER BY rank, seq FOR UPDATE SKIP LOCKED
