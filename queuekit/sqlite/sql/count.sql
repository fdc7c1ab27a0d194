-- count: depth by queue and state, and since when the oldest ready job waits.
SELECT queue, state, count(*), min(CASE WHEN ready = 1 OR held = 'published' OR (state = 'pending' AND lease_end IS NOT NULL) THEN accepted_at END)
FROM "{ns}.jobs" GROUP BY queue, state
