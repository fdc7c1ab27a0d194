-- A place of a concurrency key is free: its next job tries again.
UPDATE "{ns}.jobs" SET held = NULL, ready = NOT recovered, lease_end = CASE WHEN recovered THEN 0 END
WHERE seq = (SELECT seq FROM "{ns}.jobs" WHERE limit_key = ? AND state = 'pending' AND held = 'limit' AND finished_at IS NULL
             ORDER BY rank, seq LIMIT 1)
