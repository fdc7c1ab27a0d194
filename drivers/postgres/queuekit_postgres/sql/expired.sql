-- sweep: jobs whose lease ran out. At most 500 at once.
SELECT id::text, cancel, limit_key FROM {schema}.jobs
WHERE ns = %(ns)s AND state = 'running' AND lease_end <= {now} ORDER BY seq LIMIT 500 FOR UPDATE SKIP LOCKED
