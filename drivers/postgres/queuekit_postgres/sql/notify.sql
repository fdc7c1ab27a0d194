-- Ring for those who wait.
SELECT pg_notify(%(channel)s, %(bell)s)
