-- Claims skip what they know to be gone (floors.py), also while a transaction elsewhere keeps vacuum from clearing it away. For that,
-- line 1 holds only jobs that joined it when they were stored, by a transaction that had its number before they had their seq;
-- whoever comes back to an old place stands in line 3. And running jobs are found by when they started, which grows as floors do.
CREATE INDEX jobs_returned ON {schema}.jobs (ns, queue, rank, seq) WHERE line = 3;
DROP INDEX {schema}.jobs_running;
CREATE INDEX jobs_running ON {schema}.jobs (ns, started_at) WHERE state = 'running';
-- The scope first, as the id in jobs_id.
ALTER TABLE {schema}.uniques DROP CONSTRAINT uniques_pkey, ADD PRIMARY KEY (scope, ns);

CREATE OR REPLACE FUNCTION {schema}.store_plain(
    ns integer, id uuid, queue text, type text, body bytea, now timestamptz, channel text, bell text
) RETURNS boolean
LANGUAGE plpgsql AS $body$
#variable_conflict use_variable
BEGIN
    PERFORM pg_current_xact_id();
    INSERT INTO {schema}.jobs AS j (ns, id, queue, type, body, accepted_at) VALUES (ns, id, queue, type, body, now)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND OR {schema}.was_known(ns, id) THEN
        RETURN false;
    END IF;
    IF channel IS NOT NULL THEN
        PERFORM pg_notify(channel, bell);
    END IF;
    RETURN true;
END
$body$;
CREATE OR REPLACE FUNCTION {schema}.store(
    ns integer, id uuid, queue text, type text, body bytea, now timestamptz, extra text, rank integer, gated boolean, key bytea,
    limit_key bytea, rate_key bytea, scope bytea, delay double precision, at double precision
) RETURNS boolean
LANGUAGE plpgsql AS $body$
#variable_conflict use_variable
DECLARE
    later timestamptz := greatest(now + delay * interval '1 second', to_timestamp(at));
    waits boolean := later > now;
BEGIN
    PERFORM pg_current_xact_id();
    INSERT INTO {schema}.jobs AS j
        (ns, id, queue, type, body, accepted_at, extra, rank, gated, key, limit_key, rate_key, scope, due, state, line)
    VALUES (
        ns, id, queue, type, body, now, extra, rank, gated, key, limit_key, rate_key, scope, CASE WHEN waits THEN later END,
        CASE WHEN waits THEN 'scheduled'::{schema}.state ELSE 'pending'::{schema}.state END, CASE WHEN waits THEN 0 ELSE 1 END
    ) ON CONFLICT DO NOTHING;
    RETURN FOUND AND NOT {schema}.was_known(ns, id);
END
$body$;
