-- claim: the head of a queue's line.
SELECT seq, id, queue, type, body, extra, rank, attempt, generation, recovered FROM "{ns}.jobs"
WHERE ready = 1 AND queue = ? ORDER BY rank, seq LIMIT ?
