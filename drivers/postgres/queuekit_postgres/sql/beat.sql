-- beat: remember a worker.
INSERT INTO {schema}.workers (ns, id, info, seen_at, until)
VALUES (%(ns)s, %(id)s, %(info)s, {now}, {now} + %(ttl)s::float8 * interval '1 second')
ON CONFLICT (ns, id) DO UPDATE SET info = excluded.info, seen_at = excluded.seen_at, until = excluded.until
