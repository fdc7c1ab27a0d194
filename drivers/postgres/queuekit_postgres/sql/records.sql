-- records, browse: `which` is a condition on the id, or none.
-- The columns of a record, in the order in which records.py reads them.
SELECT seq, id, queue, type, state::text, body, reason, rank, extra, attempt, generation, accepted_at, due, started_at,
       finished_at, percent, step, errors, result, result_error, cancel, token
FROM (
    SELECT seq, id::text, queue, type, state, body, NULL::text AS reason, rank, extra, attempt, generation,
           extract(epoch FROM accepted_at)::float8 AS accepted_at,
           CASE WHEN held IS NULL THEN extract(epoch FROM due)::float8 END AS due,
           extract(epoch FROM started_at)::float8 AS started_at, NULL::float8 AS finished_at, percent, step, errors,
           NULL::bytea AS result, NULL::text AS result_error, cancel, token
    FROM {schema}.jobs WHERE ns = %(ns)s AND {which}
    UNION ALL
    SELECT seq, id::text, queue, type, state, body, reason, rank, extra, attempt, generation,
           extract(epoch FROM accepted_at)::float8, NULL, extract(epoch FROM started_at)::float8,
           extract(epoch FROM finished_at)::float8, percent, step, errors, result, result_error, false, token
    FROM {schema}.history WHERE ns = %(ns)s AND {which}
) AS r
