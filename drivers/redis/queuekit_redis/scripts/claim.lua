-- claim: lend due messages.
--
-- ARGV[2]: {queues, limit, places, lease, recover}. Returns token, start, values, notes ("attempt generation recovered", empty for
-- a first plain hand-out), the microseconds until something may become due, and the clock of leases.
-- uses: base job fresh handing lending

-- As in settling: a full server can still be drained.
call('ZREM', LEASES, '')
local reply = claim(cmsgpack.unpack(ARGV[2]))
trim()
write_counts()
return reply
