-- claim, while it waits: the next wall time and the next monotonic time at which something changes by itself.
SELECT (SELECT min(due) FROM "{ns}.jobs" WHERE due IS NOT NULL),
       (SELECT min(lease_end) FROM "{ns}.jobs" WHERE state = 'running' AND lease_end IS NOT NULL)
