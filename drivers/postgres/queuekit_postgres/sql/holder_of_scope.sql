-- send_unique: the job that holds a scope.
SELECT id::text FROM {schema}.uniques WHERE ns = %(ns)s AND scope = %(scope)s
