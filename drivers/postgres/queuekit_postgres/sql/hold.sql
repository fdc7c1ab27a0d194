-- claim: a job that its key or limit keeps back leaves the line; what makes room for it puts it back, or its time.
UPDATE {schema}.jobs
SET line = 0, held = %(held)s, due = {now} + %(wait)s::float8 * interval '1 second'
WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[])
