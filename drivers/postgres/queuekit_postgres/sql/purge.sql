-- purge: delete what waits in a queue; a row each with what it held. Scopes are let go as in `free_scopes`.
WITH gone AS (
    DELETE FROM {schema}.jobs WHERE ns = %(ns)s AND queue = %(queue)s AND state IN ('pending', 'scheduled')
    RETURNING id, key, scope
), freed AS (
    DELETE FROM {schema}.uniques
    WHERE ns = %(ns)s AND scope = ANY(ARRAY(SELECT scope FROM gone WHERE scope IS NOT NULL))
      AND id = ANY(ARRAY(SELECT id FROM gone WHERE scope IS NOT NULL))
)
SELECT count(*), array_agg(DISTINCT key) FILTER (WHERE key IS NOT NULL) FROM gone
