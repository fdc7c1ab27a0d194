-- claim: count the hand-out and begin the lease.
UPDATE "{ns}.jobs"
SET state = 'running', ready = 0, held = NULL, due = NULL, attempt = attempt + 1, settled = 0, token = ?, lease_end = ?, started_at = ?
WHERE seq IN (SELECT value FROM json_each(?))
