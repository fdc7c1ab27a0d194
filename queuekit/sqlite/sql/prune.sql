-- prune: forget records past their retention. At most :most at once.
DELETE FROM "{ns}.jobs" WHERE seq IN (SELECT seq FROM "{ns}.jobs" WHERE forget_at <= :wall LIMIT :most)
