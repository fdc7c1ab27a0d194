-- send in bulk: the same for ids that are far apart.
DELETE FROM {schema}.jobs AS j USING unnest(%(ids)s::uuid[]) AS g(id), {schema}.history AS h
WHERE h.ns = %(ns)s AND h.id = g.id AND j.ns = %(ns)s AND j.id = g.id
