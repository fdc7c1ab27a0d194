-- settle: plain jobs that succeeded.
UPDATE "{ns}.jobs" SET state = 'completed', finished_at = ?, forget_at = ?, settled = 1, recovered = 0, lease_end = NULL
WHERE seq IN (SELECT value FROM json_each(?))
