-- admit, outbox: keep jobs out of the line and of the outbox for a while.
UPDATE {schema}.jobs SET line = 0, held = 'published', due = {now} + %(wait)s::float8 * interval '1 second'
WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND line > 0
