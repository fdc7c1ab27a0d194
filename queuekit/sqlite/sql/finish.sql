-- settle, cancel: a job reaches a terminal state.
UPDATE "{ns}.jobs"
SET state = :state, reason = :reason, finished_at = :wall, forget_at = :wall + :retain, settled = max(settled, :settled), recovered = 0, cancel = 0, lease_end = NULL,
    ready = 0, held = NULL, due = NULL, result = :result, result_error = :result_error, errors = coalesce(:errors, errors)
WHERE seq = :seq
