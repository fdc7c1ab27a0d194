-- claim: note a hand-out of a rate.
INSERT INTO {schema}.grants (ns, rate_key, at, until)
SELECT %(ns)s, %(key)s, g.at, g.at + %(period)s::float8 * interval '1 second' FROM (SELECT {now} AS at) AS g
