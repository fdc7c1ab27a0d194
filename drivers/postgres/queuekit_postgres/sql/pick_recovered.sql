-- claim: recovered jobs of these queues, in the order of a line.
SELECT id::text, queue, extra, head FROM {schema}.jobs
WHERE ns = %(ns)s AND line = 2 AND queue = ANY(%(queues)s::text[])
ORDER BY rank, seq LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
