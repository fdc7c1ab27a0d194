-- extend: let leases run on.
UPDATE "{ns}.jobs" SET lease_end = ? WHERE seq IN (SELECT value FROM json_each(?))
