-- The turn of a key's next job has come.
UPDATE "{ns}.jobs" SET held = NULL, ready = 1
WHERE seq = (SELECT seq FROM "{ns}.jobs" WHERE key = ? AND finished_at IS NULL ORDER BY turn LIMIT 1) AND held = 'key'
