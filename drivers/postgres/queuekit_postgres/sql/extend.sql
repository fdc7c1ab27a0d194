-- extend: let leases run on that have not run out. Joined, not found by place as in `complete`: a row that somebody else
-- changes at this moment (progress, a cancellation) would be passed over there, and its lease be taken for lost.
WITH renewed AS (
    UPDATE {schema}.jobs AS j SET lease_end = {now} + %(lease)s::float8 * interval '1 second'
    FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS g(id, token)
    WHERE j.ns = %(ns)s AND j.id = g.id AND j.id = ANY(%(ids)s::uuid[]) AND j.token = g.token AND j.state::text = 'running'
      AND j.lease_end > {now}
    RETURNING j.id, j.cancel, j.queue
)
SELECT r.id::text, r.cancel, EXISTS (SELECT 1 FROM {schema}.paused AS p WHERE p.ns = %(ns)s AND p.queue = r.queue) FROM renewed AS r
