-- send in bulk: drop what has the id of a finished job; asked after the insertion, as store_plain says.
DELETE FROM {schema}.jobs AS j USING {schema}.history AS h
WHERE h.ns = %(ns)s AND h.id BETWEEN %(first)s::uuid AND %(last)s::uuid AND j.ns = %(ns)s AND j.id = h.id AND j.id = ANY(%(ids)s::uuid[])
