-- settle: what became of leases whose jobs have ended.
SELECT id::text, token, state::text, settled, generation FROM {schema}.history WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[])
