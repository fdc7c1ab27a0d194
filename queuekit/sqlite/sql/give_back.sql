-- settle: a job comes back, now (to its old place) or later. :used is 0 when the hand-out is refunded. :body is that of a successor, or NULL.
UPDATE "{ns}.jobs"
SET state = CASE WHEN :due IS NULL THEN 'pending' ELSE 'scheduled' END, ready = :due IS NULL, held = NULL, due = :due,
    attempt = attempt - 1 + :used, settled = 1, recovered = 0, lease_end = NULL, errors = coalesce(:errors, errors),
    body = coalesce(:body, body), extra = CASE WHEN :body IS NULL THEN extra ELSE :extra END,
    limit_key = CASE WHEN :body IS NULL THEN limit_key ELSE :limit_key END,
    rate_key = CASE WHEN :body IS NULL THEN rate_key ELSE :rate_key END
WHERE seq = :seq
