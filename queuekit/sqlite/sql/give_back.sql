-- settle: a job comes back, now (to its old place) or later. :used is 0 when the hand-out is refunded.
UPDATE "{ns}.jobs"
SET state = CASE WHEN :due IS NULL THEN 'pending' ELSE 'scheduled' END, ready = :due IS NULL, held = NULL, due = :due,
    attempt = attempt - 1 + :used, settled = 1, recovered = 0, lease_end = NULL, errors = coalesce(:errors, errors),
    body = coalesce(:body, body), extra = coalesce(:extra, extra), limit_key = coalesce(:limit_key, limit_key),
    rate_key = coalesce(:rate_key, rate_key)
WHERE seq = :seq
