-- claim: let jobs whose time has come stand in line. At most a thousand at once.
UPDATE {schema}.jobs
SET state = 'pending', due = NULL, held = NULL, line = CASE WHEN recovered THEN 2 ELSE 3 END
WHERE ns = %(ns)s AND id = ANY(ARRAY(
    SELECT id FROM {schema}.jobs WHERE ns = %(ns)s AND due <= {now} AND due > to_timestamp(%(due_floor)s::float8) ORDER BY due LIMIT 1000 FOR UPDATE SKIP LOCKED
))
