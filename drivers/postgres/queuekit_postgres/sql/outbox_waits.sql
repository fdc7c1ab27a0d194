-- outbox, before it locks anything: whether time has work to do, or anything stands in a line.
SELECT EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND due <= {now} AND due > to_timestamp(%(due_floor)s::float8))
    OR EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND line = 1)
    OR EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND line = 2)
    OR EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND line = 3)
    OR (%(recover)s::boolean AND EXISTS (
        SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND state = 'running' AND lease_end <= {now}
           AND started_at > to_timestamp(%(started_floor)s::float8)))
