-- retry: failed and cancelled jobs start over, at their old place in the queue and at the end of their key's line.
WITH gone AS (
    DELETE FROM {schema}.history WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND state IN ('failed', 'cancelled') RETURNING *
)
INSERT INTO {schema}.jobs
    (seq, token, accepted_at, started_at, id, ns, generation, rank, queue, type, body, extra, errors, turn,
     line, gated, key, limit_key, rate_key)
SELECT h.seq, h.token, h.accepted_at, h.started_at, h.id, h.ns, h.generation + 1, h.rank, h.queue, h.type, h.body, h.extra,
       h.errors, nextval('{schema}.places'), 3, g.gated, g.key, g.limit_key, g.rate_key
FROM unnest(%(ids)s::uuid[], %(gateds)s::boolean[], %(keys)s::bytea[], %(limit_keys)s::bytea[], %(rate_keys)s::bytea[])
    AS g(id, gated, key, limit_key, rate_key) JOIN gone AS h ON h.id = g.id
