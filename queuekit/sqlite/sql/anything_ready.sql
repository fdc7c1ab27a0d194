-- claim, before it writes: whether a queue's line has anybody.
SELECT EXISTS (SELECT 1 FROM "{ns}.jobs" WHERE ready = 1 AND queue = ?)
