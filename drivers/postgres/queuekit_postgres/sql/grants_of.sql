-- claim: the grants in a rate's window, the age of the oldest, and how many jobs wait for one.
SELECT (SELECT count(*) FROM {schema}.grants WHERE ns = %(ns)s AND rate_key = %(key)s),
       (SELECT extract(epoch FROM {now} - min(at))::float8 FROM {schema}.grants WHERE ns = %(ns)s AND rate_key = %(key)s),
       (SELECT count(*) FROM {schema}.jobs WHERE ns = %(ns)s AND rate_key = %(key)s AND held = 'rate')
