-- server_time: the server's clock.
SELECT extract(epoch FROM {now})::float8
