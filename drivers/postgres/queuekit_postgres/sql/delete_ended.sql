-- delete: remove finished jobs.
DELETE FROM {schema}.history WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) RETURNING id::text, state::text
