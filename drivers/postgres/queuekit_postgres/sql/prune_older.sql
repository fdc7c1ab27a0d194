-- prune: forget records that ended this long ago.
DELETE FROM {schema}.history WHERE ns = %(ns)s AND id = ANY(ARRAY(
    SELECT id FROM {schema}.history WHERE ns = %(ns)s AND finished_at <= {now} - %(age)s::float8 * interval '1 second' LIMIT %(limit)s::int
))
