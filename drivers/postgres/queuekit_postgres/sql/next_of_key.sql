-- The turns of these keys' next jobs have come.
UPDATE {schema}.jobs SET held = NULL, line = CASE WHEN recovered THEN 2 ELSE 3 END
WHERE ns = %(ns)s AND held = 'key' AND id = ANY(ARRAY(
    SELECT (SELECT id FROM {schema}.jobs WHERE ns = %(ns)s AND key = k.key ORDER BY head DESC, coalesce(turn, seq) LIMIT 1)
    FROM unnest(%(keys)s::bytea[]) AS k(key)
))
