-- claim: note a hand-out of a rate.
INSERT INTO {schema}.grants (ns, rate_key, at) VALUES (%(ns)s, %(key)s, {now})
