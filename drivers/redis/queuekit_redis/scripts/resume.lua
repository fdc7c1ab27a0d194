-- resume: lend from a queue again.
--
-- ARGV[2]: the queue.
-- uses: base
-- keys: paused

call('SREM', PAUSED, ARGV[2])
ring(ARGV[2])
return {}
