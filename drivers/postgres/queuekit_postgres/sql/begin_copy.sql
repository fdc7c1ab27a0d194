-- send in bulk: the server's clock, and a number for this transaction before its jobs have places: floors.py builds on that.
SELECT extract(epoch FROM {now})::float8, pg_current_xact_id()::text
