-- sweep: jobs whose lease ran out. At most 500 at once.
SELECT id::text, cancel, limit_key FROM {schema}.jobs
WHERE ns = %(ns)s AND state = 'running' AND lease_end <= {now} AND started_at > to_timestamp(%(started_floor)s::float8)
ORDER BY started_at LIMIT 500 FOR UPDATE SKIP LOCKED
