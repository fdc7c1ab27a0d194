-- claim: drop a rate's grants that left its window.
DELETE FROM {schema}.grants WHERE ns = %(ns)s AND rate_key = %(key)s AND at <= {now} - %(period)s::float8 * interval '1 second'
