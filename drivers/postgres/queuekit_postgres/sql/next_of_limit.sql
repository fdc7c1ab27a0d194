-- A place of a concurrency key is free: its next job tries again.
UPDATE {schema}.jobs SET held = NULL, line = CASE WHEN recovered THEN 2 ELSE 1 END
WHERE ns = %(ns)s AND id = (
    SELECT id FROM {schema}.jobs WHERE ns = %(ns)s AND limit_key = %(key)s AND held = 'limit' ORDER BY rank, seq LIMIT 1
)
