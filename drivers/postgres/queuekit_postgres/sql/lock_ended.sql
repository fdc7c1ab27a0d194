-- retry: lock finished jobs, and return what they were.
SELECT id::text, state::text, extra FROM {schema}.history WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) FOR UPDATE
