-- pause: lend nothing more from a queue.
INSERT INTO {schema}.paused (ns, queue) VALUES (%(ns)s, %(queue)s) ON CONFLICT DO NOTHING
