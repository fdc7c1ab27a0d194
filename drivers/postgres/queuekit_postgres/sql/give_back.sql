-- settle: jobs come back, now (to their old place) or later. `used` is 0 when the hand-out is refunded; `body` is that of a
-- successor, or NULL.
UPDATE {schema}.jobs AS j
SET state = (CASE WHEN g.delay > 0 THEN 'scheduled' ELSE 'pending' END)::{schema}.state,
    line = CASE WHEN g.delay > 0 THEN 0 ELSE 3 END, held = NULL,
    due = CASE WHEN g.delay > 0 THEN {now} + g.delay * interval '1 second' END,
    attempt = j.attempt - 1 + g.used, settled = true, recovered = false, lease_end = NULL,
    errors = coalesce(g.errors, j.errors), body = coalesce(g.body, j.body),
    extra = CASE WHEN g.body IS NULL THEN j.extra ELSE g.extra END,
    gated = CASE WHEN g.body IS NULL THEN j.gated ELSE g.gated END,
    limit_key = CASE WHEN g.body IS NULL THEN j.limit_key ELSE g.limit_key END,
    rate_key = CASE WHEN g.body IS NULL THEN j.rate_key ELSE g.rate_key END
FROM unnest(%(ids)s::uuid[], %(delays)s::float8[], %(useds)s::int[], %(errorss)s::text[], %(bodies)s::bytea[], %(extras)s::text[],
            %(gateds)s::boolean[], %(limit_keys)s::bytea[], %(rate_keys)s::bytea[])
    AS g(id, delay, used, errors, body, extra, gated, limit_key, rate_key)
WHERE j.ns = %(ns)s AND j.id = g.id AND j.id = ANY(%(ids)s::uuid[])
