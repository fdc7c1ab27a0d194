-- outbox: jobs that stand in a line, of every queue that is not paused.
SELECT id::text, queue, type, body, extra, rank FROM {schema}.jobs AS j
WHERE ns = %(ns)s AND line > 0 AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = j.ns AND p.queue = j.queue)
ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
