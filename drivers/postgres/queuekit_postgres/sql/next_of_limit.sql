-- A place of each of these concurrency keys is free: their next jobs try again.
UPDATE {schema}.jobs SET held = NULL, line = CASE WHEN recovered THEN 2 ELSE 3 END
WHERE ns = %(ns)s AND id = ANY(ARRAY(
    SELECT (SELECT id FROM {schema}.jobs WHERE ns = %(ns)s AND limit_key = k.key AND held = 'limit' ORDER BY rank, seq LIMIT 1)
    FROM unnest(%(keys)s::bytea[]) AS k(key)
))
