-- prune: forget grants that left their rate's window.
DELETE FROM "{ns}.grants" WHERE until <= ?
