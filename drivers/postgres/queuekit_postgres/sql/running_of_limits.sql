-- claim: how many jobs of each concurrency key run. The state as text: else a planner may read all that run to find these.
SELECT limit_key, count(*) FROM {schema}.jobs
WHERE ns = %(ns)s AND limit_key = ANY(%(keys)s::bytea[]) AND state::text = 'running' GROUP BY limit_key
