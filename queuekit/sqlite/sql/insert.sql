-- send: store one plain message at the end of its line; a known id is left alone.
INSERT OR IGNORE INTO "{ns}.jobs" (id, queue, type, body, state, ready, rank, accepted_at)
VALUES (?, ?, ?, ?, 'pending', 1, 5, ?)
