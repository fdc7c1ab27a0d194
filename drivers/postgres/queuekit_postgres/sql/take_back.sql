-- sweep: what ran out waits for a free slot, its hand-out still counted.
UPDATE {schema}.jobs SET state = 'pending', recovered = true, line = 2, held = NULL, settled = false
WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[])
