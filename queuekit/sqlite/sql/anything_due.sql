-- claim, before it writes: whether time has made anything due.
SELECT EXISTS (SELECT 1 FROM "{ns}.jobs" WHERE due <= :wall)
    OR EXISTS (SELECT 1 FROM "{ns}.jobs" WHERE state = 'running' AND lease_end <= :now)
    OR EXISTS (SELECT 1 FROM "{ns}.jobs" WHERE state = 'pending' AND lease_end IS NOT NULL)
