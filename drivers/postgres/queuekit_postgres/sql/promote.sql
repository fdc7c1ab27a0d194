-- claim: let jobs whose time has come stand in line. At most a thousand at once.
UPDATE {schema}.jobs
SET state = 'pending', due = NULL, held = NULL, line = CASE WHEN recovered THEN 2 ELSE 1 END
WHERE ns = %(ns)s AND id = ANY(ARRAY(
    SELECT id FROM {schema}.jobs WHERE ns = %(ns)s AND due <= {now} ORDER BY due LIMIT 1000 FOR UPDATE SKIP LOCKED
))
