-- count: depth by queue and state, and for how long the oldest job that could run has waited.
SELECT queue, state::text, count(*), extract(epoch FROM {now} - min(accepted_at) FILTER (
    WHERE (line > 0 OR held = 'published') AND (key IS NULL OR head OR NOT EXISTS (
        SELECT 1 FROM {schema}.jobs AS k
        WHERE k.ns = j.ns AND k.key = j.key AND k.id <> j.id AND (k.head OR coalesce(k.turn, k.seq) < coalesce(j.turn, j.seq))))
))::float8
FROM {schema}.jobs AS j WHERE ns = %(ns)s AND (%(queues)s::text[] IS NULL OR queue = ANY(%(queues)s::text[])) GROUP BY queue, state
UNION ALL
SELECT queue, state::text, count(*), NULL
FROM {schema}.history WHERE ns = %(ns)s AND (%(queues)s::text[] IS NULL OR queue = ANY(%(queues)s::text[])) GROUP BY queue, state
