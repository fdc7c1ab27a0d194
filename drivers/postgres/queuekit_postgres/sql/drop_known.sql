-- send in bulk: the same for ids that are far apart.
DELETE FROM {schema}.jobs AS j WHERE j.ns = %(ns)s AND j.id = ANY(ARRAY(
    SELECT h.id FROM {schema}.history AS h WHERE h.ns = %(ns)s AND h.id = ANY(%(ids)s::uuid[])
)) RETURNING j.id::text
