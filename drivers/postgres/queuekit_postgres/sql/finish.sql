-- settle, cancel, sweep: jobs reach their ends, and those to be kept move to the history.
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(states)s::text[], %(reasons)s::text[], %(refunds)s::int[], %(settleds)s::boolean[], %(results)s::bytea[],
                         %(result_errors)s::text[], %(errorss)s::text[], %(retains)s::float8[])
        AS g(id, new_state, reason, refund, new_settled, result, result_error, new_errors, retain)
), gone AS (
    DELETE FROM {schema}.jobs AS j USING given AS g WHERE j.ns = %(ns)s AND j.id = g.id AND j.id = ANY(%(ids)s::uuid[])
    RETURNING j.*, g.new_state, g.reason, g.refund, g.new_settled, g.result, g.result_error, g.new_errors, g.retain
)
INSERT INTO {schema}.history
    (seq, token, accepted_at, started_at, finished_at, forget_at, id, ns, drop_on, state, attempt, generation, rank, settled,
     queue, type, body, extra, reason, errors, percent, step, result, result_error)
SELECT seq, token, accepted_at, started_at, {now}, {now} + retain * interval '1 second', id, ns,
       CASE WHEN retain BETWEEN 86400 AND 172800 THEN (({now} + retain * interval '1 second') AT TIME ZONE 'UTC')::date END,
       new_state::{schema}.state, attempt - refund, generation, rank, settled OR new_settled,
       queue, type, body, extra, reason, coalesce(new_errors, errors), percent, step, result, result_error
FROM gone WHERE retain > 0
