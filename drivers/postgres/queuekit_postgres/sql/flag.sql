-- cancel: ask for the end of running jobs.
UPDATE {schema}.jobs SET cancel = true WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND state::text = 'running'
