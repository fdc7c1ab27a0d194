-- claim, while it waits: seconds until the next due time and the next end of a lease.
SELECT (SELECT extract(epoch FROM min(due) - {now})::float8 FROM {schema}.jobs
        WHERE ns = %(ns)s AND due > to_timestamp(%(due_floor)s::float8)),
       (SELECT extract(epoch FROM min(lease_end) - {now})::float8 FROM {schema}.jobs
        WHERE ns = %(ns)s AND state = 'running' AND started_at > to_timestamp(%(started_floor)s::float8))
