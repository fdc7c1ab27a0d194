-- requested: running jobs whose end was asked for. The state as text: else a planner may read all that run to find these.
SELECT id::text FROM {schema}.jobs WHERE ns = %(ns)s AND cancel AND state::text = 'running' ORDER BY 1
