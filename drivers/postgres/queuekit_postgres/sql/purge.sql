-- purge: delete what waits in a queue; a row each with what it held.
WITH gone AS (
    DELETE FROM {schema}.jobs WHERE ns = %(ns)s AND queue = %(queue)s AND state IN ('pending', 'scheduled')
    RETURNING id, key, scope
), freed AS (
    DELETE FROM {schema}.uniques AS u USING gone AS g WHERE u.ns = %(ns)s AND u.scope = g.scope AND u.id = g.id
)
SELECT count(*), array_agg(DISTINCT key) FILTER (WHERE key IS NOT NULL) FROM gone
