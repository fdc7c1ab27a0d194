-- extend: let leases run on that have not run out. The rows are found as in `complete`.
WITH mine AS MATERIALIZED (
    SELECT j.place
    FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS g(id, token)
    CROSS JOIN LATERAL (
        SELECT ctid AS place, token, state, lease_end FROM {schema}.jobs WHERE ns = %(ns)s AND id = g.id LIMIT 1 FOR UPDATE
    ) AS j
    WHERE j.token = g.token AND j.state = 'running' AND j.lease_end > {now}
), renewed AS (
    UPDATE {schema}.jobs SET lease_end = {now} + %(lease)s::float8 * interval '1 second'
    WHERE ctid = ANY(ARRAY(SELECT place FROM mine))
    RETURNING id, cancel, queue
)
SELECT r.id::text, r.cancel, EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = r.queue) FROM renewed AS r
