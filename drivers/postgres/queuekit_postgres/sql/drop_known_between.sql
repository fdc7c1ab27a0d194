-- send in bulk: drop what has the id of a finished job; asked after the insertion, as store_plain says. The history is asked first,
-- and by the range alone (OFFSET keeps the ids out of it): it hardly ever has anything there, and then no job is looked at.
DELETE FROM {schema}.jobs AS j WHERE j.ns = %(ns)s AND j.id = ANY(ARRAY(
    SELECT near.id
    FROM (SELECT h.id FROM {schema}.history AS h WHERE h.ns = %(ns)s AND h.id BETWEEN %(first)s::uuid AND %(last)s::uuid OFFSET 0) AS near
    WHERE near.id = ANY(%(ids)s::uuid[])
)) RETURNING j.id::text
