-- requested: running jobs whose end was asked for.
SELECT id::text FROM {schema}.jobs WHERE ns = %(ns)s AND cancel AND state = 'running' ORDER BY 1
