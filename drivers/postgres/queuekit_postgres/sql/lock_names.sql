-- Take these keys' and limits' locks until the transaction ends, always in the same order.
SELECT pg_advisory_xact_lock(name) FROM (SELECT DISTINCT name FROM unnest(%(names)s::bigint[]) AS n(name) ORDER BY name) AS s
