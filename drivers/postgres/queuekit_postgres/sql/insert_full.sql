-- send: store one message with options, unless its id is known. Whether its key lets it go is asked when it would be lent.
SELECT {schema}.store(
    %(ns)s::int, %(id)s::uuid, %(queue)s::text, %(type)s::text, %(body)s::bytea, {now}, %(extra)s::text, %(rank)s::int,
    %(gated)s::boolean, %(key)s::bytea, %(limit_key)s::bytea, %(rate_key)s::bytea, %(scope)s::bytea, %(delay)s::float8, %(at)s::float8)
