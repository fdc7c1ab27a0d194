-- prune: forget records past their retention, but for those that go with their day, and grants that left their windows.
WITH left_over AS (
    DELETE FROM {schema}.grants WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM {schema}.grants WHERE ns = %(ns)s AND until <= {now} ORDER BY until LIMIT %(limit)s::int FOR UPDATE SKIP LOCKED
    ))
)
DELETE FROM {schema}.history_rest WHERE ns = %(ns)s AND id = ANY(ARRAY(
    SELECT id FROM {schema}.history_rest WHERE ns = %(ns)s AND forget_at <= {now} ORDER BY forget_at LIMIT %(limit)s::int
))
