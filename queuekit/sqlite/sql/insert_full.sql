-- send: store one message with options. Behind an unfinished job of its key it is held.
INSERT OR IGNORE INTO "{ns}.jobs"
    (id, queue, type, body, extra, rank, key, turn, limit_key, rate_key, scope, accepted_at, due, state, ready, held)
VALUES (:id, :queue, :type, :body, :extra, :rank, :key, :turn, :limit_key, :rate_key, :scope, :now, :due,
        CASE WHEN :due IS NULL THEN 'pending' ELSE 'scheduled' END,
        :due IS NULL AND :turn = 1,
        CASE WHEN :due IS NULL AND :turn > 1 THEN 'key' END)
