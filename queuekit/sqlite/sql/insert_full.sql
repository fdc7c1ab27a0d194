-- send, admit: store one message with options. Behind an unfinished job of its key it is held. One that is due is a transport's
-- until :until, where that is given.
INSERT OR IGNORE INTO "{ns}.jobs"
    (id, queue, type, body, extra, rank, key, turn, limit_key, rate_key, scope, accepted_at, due, state, ready, held)
VALUES (:id, :queue, :type, :body, :extra, :rank, :key, :turn, :limit_key, :rate_key, :scope, :now,
        CASE WHEN :due IS NULL AND :turn = 1 THEN :until ELSE :due END,
        CASE WHEN :due IS NULL THEN 'pending' ELSE 'scheduled' END,
        :due IS NULL AND :turn = 1 AND :until IS NULL,
        CASE WHEN :due IS NULL AND :turn > 1 THEN 'key' WHEN :due IS NULL AND :until IS NOT NULL THEN 'published' END)
