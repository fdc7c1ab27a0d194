-- lend: begin the leases of those of these jobs that wait for nothing but somebody who names them. What has a key or a limit, what was lost once,
-- what is paused, lent or ended is left to more questions (lendable).
WITH picked AS MATERIALIZED (
    SELECT id FROM {schema}.jobs AS j
    WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND state = 'pending' AND (held IS NULL OR held = 'published')
      AND NOT gated AND NOT recovered
      AND NOT EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = j.ns AND p.queue = j.queue)
    ORDER BY seq FOR UPDATE
)
UPDATE {schema}.jobs AS j
SET state = 'running', line = 0, held = NULL, due = NULL, attempt = j.attempt + 1, settled = false,
    started_at = {now}, lease_end = {now} + %(lease)s::float8 * interval '1 second',
    token = greatest(coalesce(j.token, 0) + 1, {token})
WHERE j.ns = %(ns)s AND j.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING j.rank, j.seq, j.id::text, j.queue, j.type, j.body, j.extra, j.attempt, j.generation, j.recovered, j.token
