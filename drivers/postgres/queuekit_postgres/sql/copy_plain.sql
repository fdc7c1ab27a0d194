-- send in bulk: plain messages.
COPY {schema}.jobs (ns, id, queue, type, body, accepted_at) FROM STDIN (FORMAT binary)
