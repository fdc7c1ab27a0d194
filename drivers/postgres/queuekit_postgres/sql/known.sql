-- send_unique: whether a job has this id.
SELECT EXISTS (SELECT 1 FROM {schema}.jobs WHERE ns = %(ns)s AND id = %(id)s::uuid)
    OR EXISTS (SELECT 1 FROM {schema}.history WHERE ns = %(ns)s AND id = %(id)s::uuid)
