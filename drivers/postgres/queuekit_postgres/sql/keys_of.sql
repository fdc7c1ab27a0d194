-- cancel and its like: whose locks these jobs need.
SELECT key, limit_key FROM {schema}.jobs WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND (key IS NOT NULL OR limit_key IS NOT NULL)
