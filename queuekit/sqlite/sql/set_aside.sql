-- admit, outbox: a transport carries these jobs, or will; :due is when the outbox names them again.
UPDATE "{ns}.jobs" SET ready = 0, lease_end = NULL, held = 'published', due = ?
WHERE seq IN (SELECT value FROM json_each(?))
