-- report: note progress where the lease still is the reporter's.
UPDATE {schema}.jobs AS j SET percent = g.percent, step = g.step
FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(percents)s::float8[], %(steps)s::text[]) AS g(id, token, percent, step)
WHERE j.ns = %(ns)s AND j.id = g.id AND j.id = ANY(%(ids)s::uuid[]) AND j.token = g.token AND j.state::text = 'running'
RETURNING j.id::text
