-- browse: the columns of a record, in the order in which `records.py` reads them.
SELECT seq, id, queue, type, state, body, reason, rank, extra, attempt, generation, accepted_at, due, started_at, finished_at,
       percent, step, errors, result, result_error, cancel, token, held
FROM "{ns}.jobs"
