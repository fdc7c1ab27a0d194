-- Whether a key has an unfinished job.
SELECT EXISTS (SELECT 1 FROM "{ns}.jobs" WHERE key = ? AND finished_at IS NULL)
