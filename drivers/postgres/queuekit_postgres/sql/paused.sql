-- paused: the queues from which nothing is lent.
SELECT queue FROM {schema}.paused WHERE ns = %(ns)s ORDER BY queue
