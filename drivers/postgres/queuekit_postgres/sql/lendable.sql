-- lend: lock these very jobs, and return what decides about them.
SELECT id::text, queue, CASE WHEN gated THEN extra END, head, state::text, held,
       EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = j.ns AND p.queue = j.queue), recovered
FROM {schema}.jobs AS j WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) ORDER BY seq FOR UPDATE
