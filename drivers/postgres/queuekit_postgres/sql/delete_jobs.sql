-- delete: remove unfinished jobs that do not run.
DELETE FROM {schema}.jobs WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[])
