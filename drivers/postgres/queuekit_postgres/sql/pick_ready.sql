-- claim: the head of a queue's line, with what its gates must know.
SELECT id::text, queue, CASE WHEN gated THEN extra END, head FROM {schema}.jobs
WHERE ns = %(ns)s AND queue = %(queue)s AND line = 1
ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
