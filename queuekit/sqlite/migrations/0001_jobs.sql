-- Jobs of one namespace ({ns}); finished ones stay in the same table until their retention ends, so that settling a job
-- is one update of one row. Every index is partial: a job stands only in those that its present state needs.
--
-- state      pending | scheduled | running | completed | failed | cancelled
-- ready      1 while it stands in its queue's line
-- rank       9 - priority
-- due        wall time at which it is looked at again: a delay, a retry wait, or the next grant of its rate
-- held       key | limit | rate: what keeps a pending job out of the line; published: a transport carries it (pairing)
-- turn       place in the key's line; who joins it, also by a retry, stands at its end
-- extra      JSON of the message without its body, for messages that have more than the plain fields
-- lease_end  monotonic time of this boot; a pending job that has one was taken back from a lease that ran out
CREATE TABLE "{ns}.jobs" (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    queue TEXT NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    extra TEXT,
    state TEXT NOT NULL,
    ready INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    due REAL,
    held TEXT,
    key TEXT,
    turn INTEGER,
    limit_key TEXT,
    rate_key TEXT,
    scope TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    recovered INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    token INTEGER,
    lease_end REAL,
    accepted_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL,
    forget_at REAL,
    reason TEXT,
    errors TEXT,
    percent REAL,
    step TEXT,
    result TEXT,
    result_error TEXT
);
CREATE INDEX "{ns}.ready" ON "{ns}.jobs" (queue, rank, seq) WHERE ready = 1;
CREATE INDEX "{ns}.due" ON "{ns}.jobs" (due) WHERE due IS NOT NULL;
CREATE INDEX "{ns}.leased" ON "{ns}.jobs" (state, lease_end) WHERE lease_end IS NOT NULL;
CREATE INDEX "{ns}.key" ON "{ns}.jobs" (key, turn) WHERE key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX "{ns}.limit" ON "{ns}.jobs" (limit_key, state) WHERE limit_key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX "{ns}.rate" ON "{ns}.jobs" (rate_key) WHERE held = 'rate';
CREATE INDEX "{ns}.forget" ON "{ns}.jobs" (forget_at) WHERE forget_at IS NOT NULL;
-- Who holds a unique scope; until is wall time, NULL for "until the end".
CREATE TABLE "{ns}.uniques" (scope TEXT PRIMARY KEY, id TEXT NOT NULL, until REAL) WITHOUT ROWID;
-- The newest grants of each rate, in monotonic time of this boot.
CREATE TABLE "{ns}.grants" (rate_key TEXT NOT NULL, at REAL NOT NULL);
CREATE INDEX "{ns}.grants_by_key" ON "{ns}.grants" (rate_key, at);
CREATE TABLE "{ns}.paused" (queue TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE "{ns}.workers" (id TEXT PRIMARY KEY, info TEXT NOT NULL, seen_at REAL NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
