-- send_unique: a job that nobody has started takes over another message's body and options.
UPDATE {schema}.jobs AS j
SET body = %(body)s, type = %(type)s, queue = %(queue)s, extra = %(extra)s, rank = %(rank)s, gated = %(gated)s,
    key = %(key)s::bytea, turn = nextval('{schema}.places'), limit_key = %(limit_key)s::bytea, rate_key = %(rate_key)s::bytea,
    held = NULL, due = t.due,
    state = (CASE WHEN t.due IS NULL THEN 'pending' ELSE 'scheduled' END)::{schema}.state,
    line = CASE WHEN t.due IS NULL THEN 3 ELSE 0 END
FROM (
    SELECT CASE WHEN n.later > n.now THEN n.later END AS due
    FROM (
        SELECT m.now, greatest(m.now + %(delay)s::float8 * interval '1 second', to_timestamp(%(at)s::float8)) AS later
        FROM (SELECT {now} AS now) AS m
    ) AS n
) AS t
WHERE j.ns = %(ns)s AND j.id = %(id)s::uuid
