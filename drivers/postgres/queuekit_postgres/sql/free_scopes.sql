-- Let go of unique scopes that these jobs hold.
DELETE FROM {schema}.uniques AS u USING unnest(%(scopes)s::bytea[], %(ids)s::uuid[]) AS g(scope, id)
WHERE u.ns = %(ns)s AND u.scope = g.scope AND u.id = g.id
