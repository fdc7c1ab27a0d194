-- claim, every now and then: where each index begins that claims read from its head, and what floors.py must know to tell what
-- can still appear below: the snapshot, a number that every transaction begun before it is below, the newest place, the time.
SELECT pg_current_snapshot()::text, pg_current_xact_id()::text, nextval('{schema}.places'), extract(epoch FROM {now})::float8,
       (SELECT extract(epoch FROM due)::float8 FROM {schema}.jobs
        WHERE ns = %(ns)s AND due > to_timestamp(%(due_floor)s::float8) ORDER BY due LIMIT 1),
       (SELECT extract(epoch FROM started_at)::float8 FROM {schema}.jobs
        WHERE ns = %(ns)s AND state = 'running' AND started_at > to_timestamp(%(started_floor)s::float8) ORDER BY started_at LIMIT 1),
       ARRAY(
           SELECT (SELECT seq FROM {schema}.jobs
                   WHERE ns = %(ns)s AND queue = f.queue AND line = 1 AND rank = f.rank AND seq > f.floor ORDER BY seq LIMIT 1)
           FROM unnest(%(queues)s::text[], %(ranks)s::smallint[], %(floors)s::bigint[]) WITH ORDINALITY AS f(queue, rank, floor, n)
           ORDER BY n
       )
