-- send_unique: take a scope that is free or whose time has run out. Waits for whoever takes it at this moment.
INSERT INTO {schema}.uniques AS u (ns, scope, id, until)
VALUES (%(ns)s, %(scope)s, %(id)s::uuid, {now} + %(ttl)s::float8 * interval '1 second')
ON CONFLICT (ns, scope) DO UPDATE SET id = excluded.id, until = excluded.until WHERE u.until <= {now}
RETURNING 1
