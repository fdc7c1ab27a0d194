-- Let go of unique scopes that these jobs hold. Not joined: of a young table a planner knows so little that it would rather read
-- every scope of the namespace. A job holds no scope but its own, so two arrays are as good as pairs.
DELETE FROM {schema}.uniques WHERE ns = %(ns)s AND scope = ANY(%(scopes)s::bytea[]) AND id = ANY(%(ids)s::uuid[])
