-- settle, lend: what became of jobs that have ended. Each is looked up by its id alone, for the reason that complete.sql gives.
SELECT g.id::text, h.token, h.state, h.settled, h.generation
FROM unnest(%(ids)s::uuid[]) AS g(id)
CROSS JOIN LATERAL (
    SELECT token, state::text, settled, generation FROM {schema}.history WHERE ns = %(ns)s AND id = g.id LIMIT 1
) AS h
