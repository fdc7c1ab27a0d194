-- send: store one plain message at the end of its line, unless its id is known, and ring.
SELECT {schema}.store_plain(
    %(ns)s::int, %(id)s::uuid, %(queue)s::text, %(type)s::text, %(body)s::bytea, {now}, %(channel)s::text, %(bell)s::text)
