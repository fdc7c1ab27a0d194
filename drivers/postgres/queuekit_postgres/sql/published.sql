-- published: jobs on the transport stay out of the outbox for a while, unless they were set aside anew since their tickets left.
-- Looked up as an array: joined alone, a planner without statistics reads the whole namespace.
UPDATE {schema}.jobs AS j SET due = {now} + %(wait)s::float8 * interval '1 second'
FROM unnest(%(ids)s::uuid[], %(bounds)s::float8[]) AS g(id, bound)
WHERE j.ns = %(ns)s AND j.id = ANY(%(ids)s::uuid[]) AND j.id = g.id AND j.held = 'published' AND j.due <= {now} + g.bound * interval '1 second'
