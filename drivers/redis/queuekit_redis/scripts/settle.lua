-- settle: apply outcomes whose lease still is the newest.
--
-- ARGV[2]: groups of plain successes, {queue, state, forgotten, ids}; ARGV[3]: other outcomes. Returns the answers and the queues to ring elsewhere.
-- uses: base job sending settling

local answers = settle(cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]))
trim()
write_counts()
return { answers, elsewhere }
