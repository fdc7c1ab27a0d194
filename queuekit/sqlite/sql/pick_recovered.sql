-- claim: recovered jobs of these queues, in the order of a line.
SELECT seq, id, queue, type, body, extra, rank, attempt, generation, recovered FROM "{ns}.jobs"
WHERE state = 'pending' AND lease_end IS NOT NULL AND held IS NULL AND due IS NULL
  AND queue IN (SELECT value FROM json_each(?)) ORDER BY rank, seq LIMIT ?
