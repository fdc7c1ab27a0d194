-- prune: forget records that ended this long ago.
DELETE FROM "{ns}.jobs" WHERE seq IN
    (SELECT seq FROM "{ns}.jobs" WHERE forget_at IS NOT NULL AND finished_at <= :wall - :age LIMIT :most)
