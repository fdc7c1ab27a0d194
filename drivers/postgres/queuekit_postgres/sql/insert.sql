-- send: store one plain message at the end of its line, unless its id is known, and ring.
SELECT CASE WHEN {schema}.store_plain(%(ns)s::int, %(id)s::uuid, %(queue)s::text, %(type)s::text, %(body)s::bytea, {now})
    AND %(channel)s::text IS NOT NULL THEN pg_notify(%(channel)s::text, %(bell)s::text) END
