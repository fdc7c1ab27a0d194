-- retry: a failed or cancelled job starts over, at its old place in the queue and at the end of its key's line.
UPDATE "{ns}.jobs"
SET state = 'pending', turn = :turn, ready = :turn = 1, held = CASE WHEN :turn > 1 THEN 'key' END, due = NULL, attempt = 0, generation = generation + 1,
    recovered = 0, settled = 0, lease_end = NULL, cancel = 0, reason = NULL, finished_at = NULL, forget_at = NULL, percent = NULL, step = NULL
WHERE seq = :seq
