-- The next place in a key's line: 1 when nobody stands in it.
SELECT coalesce(max(turn), 0) + 1 FROM "{ns}.jobs" WHERE key = ? AND finished_at IS NULL
