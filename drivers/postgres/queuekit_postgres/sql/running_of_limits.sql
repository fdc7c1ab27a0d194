-- claim: how many jobs of each concurrency key run.
SELECT limit_key, count(*) FROM {schema}.jobs
WHERE ns = %(ns)s AND limit_key = ANY(%(keys)s::bytea[]) AND state = 'running' GROUP BY limit_key
