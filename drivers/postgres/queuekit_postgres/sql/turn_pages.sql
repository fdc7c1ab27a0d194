-- prune: make the coming days' partitions and drop those of days that are over.
SELECT {schema}.turn_pages()
