-- sweep: jobs whose lease ran out. At most :most at once.
SELECT seq, id, cancel, limit_key FROM "{ns}.jobs" WHERE state = 'running' AND lease_end <= :now ORDER BY lease_end LIMIT :most
