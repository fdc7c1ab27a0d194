-- lend: jobs that a transport delivered too early stand in line for the outbox.
UPDATE {schema}.jobs SET line = CASE WHEN recovered THEN 2 ELSE 3 END, held = NULL, due = NULL
WHERE ns = %(ns)s AND id = ANY(%(ids)s::uuid[]) AND held = 'published'
