-- send in bulk: messages with options.
COPY {schema}.jobs (ns, id, queue, type, body, accepted_at, extra, rank, gated, key, limit_key, rate_key, due, line, state)
FROM STDIN (FORMAT binary)
