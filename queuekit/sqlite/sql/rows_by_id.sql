-- lend: the jobs that were named.
SELECT seq, id, queue, type, body, extra, rank, attempt, generation, recovered, state, held
FROM "{ns}.jobs" WHERE id IN (SELECT value FROM json_each(?))
