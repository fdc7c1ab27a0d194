-- published: jobs on the transport stay out of the outbox for a while.
UPDATE {schema}.jobs SET due = {now} + %(wait)s::float8 * interval '1 second'
WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND held = 'published'
