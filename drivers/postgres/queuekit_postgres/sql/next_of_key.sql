-- The turn of a key's next job has come.
UPDATE {schema}.jobs SET held = NULL, line = CASE WHEN recovered THEN 2 ELSE 1 END
WHERE ns = %(ns)s AND held = 'key' AND id = (
    SELECT id FROM {schema}.jobs WHERE ns = %(ns)s AND key = %(key)s ORDER BY head DESC, coalesce(turn, seq) LIMIT 1
)
