-- resume: lend from a queue again.
DELETE FROM {schema}.paused WHERE ns = %(ns)s AND queue = %(queue)s
