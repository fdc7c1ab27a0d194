-- admit: store one plain message that a transport carries; a known id is left alone.
INSERT OR IGNORE INTO "{ns}.jobs" (id, queue, type, body, state, ready, rank, accepted_at, held, due)
VALUES (?, ?, ?, ?, 'pending', 0, 5, ?, 'published', ?)
