-- prune: forget records past their retention, but for those that go with their day.
DELETE FROM {schema}.history_rest WHERE ns = %(ns)s AND id = ANY(ARRAY(
    SELECT id FROM {schema}.history_rest WHERE ns = %(ns)s AND forget_at <= {now} ORDER BY forget_at LIMIT %(limit)s::int
))
