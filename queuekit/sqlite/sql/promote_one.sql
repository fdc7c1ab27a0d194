-- lend: let a published job stand in line again.
UPDATE "{ns}.jobs"
SET ready = NOT recovered, held = NULL, due = NULL, lease_end = CASE WHEN recovered THEN 0 END
WHERE seq = ? AND held = 'published'
