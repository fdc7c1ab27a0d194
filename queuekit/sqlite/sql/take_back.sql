-- sweep: what ran out waits for a free slot, its hand-out still counted.
UPDATE "{ns}.jobs" SET state = 'pending', recovered = 1, ready = 0, held = NULL, settled = 0
WHERE seq IN (SELECT value FROM json_each(?))
