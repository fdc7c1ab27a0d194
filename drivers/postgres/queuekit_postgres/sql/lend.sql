-- claim: count the hand-outs of jobs that passed their gates, and begin their leases.
UPDATE {schema}.jobs AS j
SET state = 'running', line = 0, held = NULL, due = NULL, attempt = j.attempt + 1, settled = false, head = (key IS NOT NULL),
    started_at = {now}, lease_end = {now} + %(lease)s::float8 * interval '1 second',
    token = greatest(coalesce(j.token, 0) + 1, {token})
WHERE j.ns = %(ns)s AND j.id = ANY(%(ids)s::uuid[])
RETURNING j.rank, j.seq, j.id::text, j.queue, j.type, j.body, j.extra, j.attempt, j.generation, j.recovered, j.token
