-- until      when a grant leaves its rate's window: a rate that nobody asks for again is forgotten by the pruning
--
-- What was granted before goes with its rate's next grant, or with the next boot.
ALTER TABLE "{ns}.grants" ADD COLUMN until REAL NOT NULL DEFAULT 1e300;
CREATE INDEX "{ns}.grants_by_end" ON "{ns}.grants" (until);
