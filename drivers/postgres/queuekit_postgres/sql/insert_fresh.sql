-- send_fresh: store one plain message at the end of its line, and ring. An id that was made for this very request is known to nobody as
-- long as its sender waits (`unknown_until`, by this server's clock); from then on the history is asked, after the insertion, as in store.
-- A transaction has its number before its jobs have places (floors.py). Returns the server's time; no row for the id of an unfinished job.
INSERT INTO {schema}.jobs AS j (seq, ns, id, queue, type, body, accepted_at)
SELECT nextval('{schema}.places'), %(ns)s::int, %(id)s::uuid, %(queue)s::text, %(type)s::text, %(body)s::bytea, {now}
WHERE pg_current_xact_id() IS NOT NULL
ON CONFLICT DO NOTHING
RETURNING extract(epoch FROM clock_timestamp())::float8,
    CASE WHEN clock_timestamp() > to_timestamp(%(unknown_until)s::float8) THEN {schema}.was_known(j.ns, j.id) END,
    CASE WHEN %(channel)s::text IS NOT NULL THEN pg_notify(%(channel)s::text, %(bell)s::text) END
