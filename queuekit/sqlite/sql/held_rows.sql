-- settle, extend: what the store knows of these leases.
SELECT seq, id, token, state, settled, generation, key, limit_key, scope, cancel, extra IS NULL, lease_end, queue
FROM "{ns}.jobs" WHERE seq IN (SELECT value FROM json_each(?))
