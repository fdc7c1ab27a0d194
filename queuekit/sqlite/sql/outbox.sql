-- outbox: due jobs that nobody has published in time, and those whose lease ran out, in the order of a line.
SELECT seq, id, queue, type, body, extra, rank FROM "{ns}.jobs" WHERE seq IN (
    SELECT seq FROM "{ns}.jobs" WHERE ready = 1
    UNION ALL
    SELECT seq FROM "{ns}.jobs" WHERE state = 'pending' AND lease_end IS NOT NULL AND held IS NULL)
  AND queue NOT IN (SELECT queue FROM "{ns}.paused") ORDER BY rank, seq LIMIT ?
