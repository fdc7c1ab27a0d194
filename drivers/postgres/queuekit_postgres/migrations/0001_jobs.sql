-- Unfinished jobs are in `jobs`, small and hot; a job that ends moves to `history` in the statement that ends it. Every
-- index of `jobs` but the first is partial: a job stands only in those that its present state needs. No index has
-- lease_end, so that renewing a lease is a HOT update, which touches no index.
--
-- ns         the namespace's number
-- seq        order of acceptance
-- line       1: stands in its queue's line; 2: in the line of those whose lease ran out; 0: in none
-- rank       9 - priority
-- gated      has a key or a limit, or frees its unique scope at the start: lent with more questions than a plain job
-- due        when it is looked at again: a delay, a retry wait, or the next grant of its rate
-- held       key | limit | rate: what keeps a pending job out of the line; published: a transport carries it (pairing)
-- head       whether it holds its key: from its first hand-out to its end
-- turn       place in the key's line where that is not seq: who joins it by a retry stands at its end
-- extra      JSON of the message without its body, for messages that have more than the plain fields
-- body       the envelope's bytes: a text column could not keep what is not valid UTF-8
-- key, limit_key, rate_key, scope   SHA-256, since the texts may be longer than an index takes, or hold a NUL
CREATE TYPE {schema}.state AS ENUM ('pending', 'scheduled', 'running', 'completed', 'failed', 'cancelled');

CREATE TABLE {schema}.meta (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO {schema}.meta (name, value) VALUES ('id', gen_random_uuid()::text);

CREATE TABLE {schema}.namespaces (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);

CREATE SEQUENCE {schema}.places;
CREATE SEQUENCE {schema}.tokens;

CREATE TABLE {schema}.jobs (
    seq bigint NOT NULL DEFAULT nextval('{schema}.places'),
    token bigint,
    accepted_at timestamptz NOT NULL,
    started_at timestamptz,
    lease_end timestamptz,
    due timestamptz,
    id uuid NOT NULL,
    ns integer NOT NULL,
    state {schema}.state NOT NULL DEFAULT 'pending',
    attempt integer NOT NULL DEFAULT 0,
    generation integer NOT NULL DEFAULT 0,
    line smallint NOT NULL DEFAULT 1,
    rank smallint NOT NULL DEFAULT 5,
    gated boolean NOT NULL DEFAULT false,
    settled boolean NOT NULL DEFAULT false,
    recovered boolean NOT NULL DEFAULT false,
    cancel boolean NOT NULL DEFAULT false,
    head boolean NOT NULL DEFAULT false,
    queue text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    extra text,
    held text,
    key bytea,
    turn bigint,
    limit_key bytea,
    rate_key bytea,
    scope bytea,
    errors text,
    percent double precision,
    step text
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 1,
    autovacuum_analyze_scale_factor = 0.1
);
-- The id first: a planner that thinks a namespace has one job would else walk through all of it, and look for the id there.
CREATE UNIQUE INDEX jobs_id ON {schema}.jobs (id, ns);
CREATE INDEX jobs_line ON {schema}.jobs (ns, queue, rank, seq) WHERE line = 1;
CREATE INDEX jobs_recovered ON {schema}.jobs (ns, queue, rank, seq) WHERE line = 2;
-- Not by token: a whole batch has one, and a planner that took it for selective would look every job of it up by it.
CREATE INDEX jobs_running ON {schema}.jobs (ns, seq) WHERE state = 'running';
CREATE INDEX jobs_due ON {schema}.jobs (ns, due) WHERE due IS NOT NULL;
CREATE INDEX jobs_key ON {schema}.jobs (ns, key) WHERE key IS NOT NULL;
CREATE INDEX jobs_limit ON {schema}.jobs (ns, limit_key) WHERE limit_key IS NOT NULL;
CREATE INDEX jobs_rate ON {schema}.jobs (ns, rate_key) WHERE held = 'rate';
CREATE INDEX jobs_cancel ON {schema}.jobs (ns) WHERE cancel;

-- Finished jobs. Those kept for one to two days, which is nearly all, are filed under the day on which they may go, a
-- partition each, and go by dropping it. The others (drop_on NULL, or a day that has no partition) are deleted one by one.
CREATE TABLE {schema}.history (
    seq bigint NOT NULL,
    token bigint,
    accepted_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL,
    forget_at timestamptz NOT NULL,
    id uuid NOT NULL,
    ns integer NOT NULL,
    drop_on date,
    state {schema}.state NOT NULL,
    attempt integer NOT NULL,
    generation integer NOT NULL,
    rank smallint NOT NULL,
    settled boolean NOT NULL,
    queue text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    body bytea NOT NULL,
    extra text,
    reason text,
    errors text,
    percent double precision,
    step text,
    result bytea,
    result_error text
) PARTITION BY LIST (drop_on);
CREATE INDEX history_id ON {schema}.history (id, ns);
CREATE TABLE {schema}.history_rest PARTITION OF {schema}.history DEFAULT;
CREATE INDEX history_rest_forget ON {schema}.history_rest (ns, forget_at);

-- Who holds a unique scope; until NULL means until the job's end.
CREATE TABLE {schema}.uniques (
    ns integer NOT NULL, scope bytea NOT NULL, id uuid NOT NULL, until timestamptz, PRIMARY KEY (ns, scope)
);
-- The newest grants of each rate.
CREATE TABLE {schema}.grants (ns integer NOT NULL, rate_key bytea NOT NULL, at timestamptz NOT NULL);
CREATE INDEX grants_key ON {schema}.grants (ns, rate_key, at);
CREATE TABLE {schema}.paused (ns integer NOT NULL, queue text COLLATE "C" NOT NULL, PRIMARY KEY (ns, queue));
CREATE TABLE {schema}.workers (
    ns integer NOT NULL, id text NOT NULL, info text NOT NULL, seen_at timestamptz NOT NULL, until timestamptz NOT NULL,
    PRIMARY KEY (ns, id)
);

-- Store a message unless its id is known. The history is asked after the insertion: a job with this id that ends meanwhile
-- leaves `jobs` before the insertion succeeds, and only a statement that begins later sees it in the history.
CREATE FUNCTION {schema}.store_plain(
    ns integer, id uuid, queue text, type text, body bytea, now timestamptz, channel text, bell text
) RETURNS boolean
LANGUAGE plpgsql AS $body$
#variable_conflict use_variable
BEGIN
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
CREATE FUNCTION {schema}.store(
    ns integer, id uuid, queue text, type text, body bytea, now timestamptz, extra text, rank integer, gated boolean, key bytea,
    limit_key bytea, rate_key bytea, scope bytea, delay double precision, at double precision
) RETURNS boolean
LANGUAGE plpgsql AS $body$
#variable_conflict use_variable
DECLARE
    later timestamptz := greatest(now + delay * interval '1 second', to_timestamp(at));
    waits boolean := later > now;
BEGIN
    INSERT INTO {schema}.jobs AS j
        (ns, id, queue, type, body, accepted_at, extra, rank, gated, key, limit_key, rate_key, scope, due, state, line)
    VALUES (
        ns, id, queue, type, body, now, extra, rank, gated, key, limit_key, rate_key, scope, CASE WHEN waits THEN later END,
        CASE WHEN waits THEN 'scheduled'::{schema}.state ELSE 'pending'::{schema}.state END, CASE WHEN waits THEN 0 ELSE 1 END
    ) ON CONFLICT DO NOTHING;
    RETURN FOUND AND NOT {schema}.was_known(ns, id);
END
$body$;
CREATE FUNCTION {schema}.was_known(job_ns integer, job_id uuid) RETURNS boolean
LANGUAGE plpgsql AS $body$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM {schema}.history AS h WHERE h.ns = job_ns AND h.id = job_id) THEN
        RETURN false;
    END IF;
    DELETE FROM {schema}.jobs AS j WHERE j.ns = job_ns AND j.id = job_id;
    RETURN true;
END
$body$;

-- Makes the partitions of the coming days and drops those of days that are over; returns how many it dropped. Runs with the
-- owner's rights, so that a worker needs no right to change tables. Whoever would have to wait for a lock gives up: it
-- is tried again within the hour, and meanwhile history_rest takes what has no partition.
CREATE FUNCTION {schema}.turn_pages() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    page record;
    dropped integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('{schema}.turn_pages', 0)) THEN
        RETURN 0;
    END IF;
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR day IN 0..3 LOOP
        IF to_regclass(format('{schema}.%I', 'history_' || to_char(today + day, 'YYYYMMDD'))) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE {schema}.%I PARTITION OF {schema}.history FOR VALUES IN (%L)',
                    'history_' || to_char(today + day, 'YYYYMMDD'), today + day
                );
            EXCEPTION WHEN check_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
    FOR page IN
        SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = '{schema}.history'::regclass AND c.relname ~ '^history_[0-9]{8}$'
          AND to_date(substr(c.relname, 9), 'YYYYMMDD') < today
    LOOP
        EXECUTE format('DROP TABLE {schema}.%I', page.name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;
END
$body$;
SELECT {schema}.turn_pages();
