-- claim, while it waits: seconds until the next due time and the next end of a lease.
SELECT (SELECT extract(epoch FROM min(due) - {now})::float8 FROM {schema}.jobs WHERE ns = %(ns)s AND due IS NOT NULL),
       (SELECT extract(epoch FROM min(lease_end) - {now})::float8 FROM {schema}.jobs WHERE ns = %(ns)s AND state = 'running')
