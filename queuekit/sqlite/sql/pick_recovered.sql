-- claim: recovered jobs of these queues, oldest first.
SELECT seq, id, queue, type, body, extra, rank, attempt, generation, recovered FROM "{ns}.jobs"
WHERE state = 'pending' AND lease_end IS NOT NULL AND held IS NULL AND due IS NULL
  AND queue IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?
