-- settle, cancel and their like: lock these jobs, and return what decides about them.
SELECT id::text, token, state::text, settled, generation, key, limit_key, scope, cancel, extra, errors, attempt, queue, type, rank
FROM {schema}.jobs WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) ORDER BY seq FOR UPDATE
