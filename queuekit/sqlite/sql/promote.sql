-- claim: let jobs whose time has come stand in line, or be held behind their key. At most :most at once.
UPDATE "{ns}.jobs" AS j
SET due = NULL, state = 'pending',
    held = CASE WHEN key IS NOT NULL AND EXISTS (
        SELECT 1 FROM "{ns}.jobs" AS k WHERE k.key = j.key AND k.finished_at IS NULL AND k.turn < j.turn) THEN 'key' END,
    ready = NOT recovered AND (key IS NULL OR NOT EXISTS (
        SELECT 1 FROM "{ns}.jobs" AS k WHERE k.key = j.key AND k.finished_at IS NULL AND k.turn < j.turn)),
    lease_end = CASE WHEN recovered THEN 0 END
WHERE seq IN (SELECT seq FROM "{ns}.jobs" WHERE due <= :wall ORDER BY due LIMIT :most)
