-- published: jobs on the transport stay out of the outbox for a while, unless they were set aside anew since their tickets left. Each is looked up by
-- its id alone and then by its place, for the reason that complete.sql gives.
WITH mine AS MATERIALIZED (
    SELECT j.place
    FROM unnest(%(ids)s::uuid[], %(bounds)s::float8[]) AS g(id, bound)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, held, due FROM {schema}.jobs WHERE ns = %(ns)s AND id = g.id LIMIT 1
    ) AS j
    WHERE j.held = 'published' AND j.due <= {now} + g.bound * interval '1 second'
)
UPDATE {schema}.jobs SET due = {now} + %(wait)s::float8 * interval '1 second'
WHERE ctid = ANY(ARRAY(SELECT place FROM mine)) AND held = 'published'
