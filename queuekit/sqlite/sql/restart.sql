-- retry: a failed or cancelled job starts over, at its old place.
UPDATE "{ns}.jobs"
SET state = 'pending', ready = NOT :behind, held = CASE WHEN :behind THEN 'key' END, due = NULL, attempt = 0, generation = generation + 1,
    recovered = 0, settled = 0, lease_end = NULL, cancel = 0, reason = NULL, finished_at = NULL, forget_at = NULL, percent = NULL, step = NULL
WHERE seq = :seq
