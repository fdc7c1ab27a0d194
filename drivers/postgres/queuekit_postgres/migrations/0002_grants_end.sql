-- until      when a grant leaves its rate's window: a rate that nobody asks for again is forgotten by the pruning
--
-- What was granted before is kept for a day, longer than nearly every window.
ALTER TABLE {schema}.grants ADD COLUMN until timestamptz NOT NULL DEFAULT clock_timestamp() + interval '1 day';
ALTER TABLE {schema}.grants ALTER COLUMN until DROP DEFAULT;
CREATE INDEX grants_until ON {schema}.grants (ns, until);
