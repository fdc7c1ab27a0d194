-- workers: who works here.
SELECT info, extract(epoch FROM seen_at)::float8 FROM {schema}.workers WHERE ns = %(ns)s AND until > {now} ORDER BY id
