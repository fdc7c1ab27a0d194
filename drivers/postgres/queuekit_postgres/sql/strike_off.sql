-- beat: forget a worker, and those whose time has run out.
DELETE FROM {schema}.workers WHERE ns = %(ns)s AND (id = %(id)s OR until <= {now})
