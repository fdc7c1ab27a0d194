-- extend: renew leases that have not run out.
--
-- ARGV[2]: lease in microseconds; ARGV[3]: a list of {state, ids}. Returns per group one character a job (0 lost, 1 held, 2 held
-- and to be cancelled), and the paused queues.
-- uses: base
-- keys: states leases cancels paused

-- As in settling: leases are renewed on a full server too.
call('ZREM', LEASES, '')
local lease_end = NOW + tonumber(ARGV[2])
local answers = {}
for _, group in ipairs(cmsgpack.unpack(ARGV[3])) do
    local state, ids = group[1], group[2]
    local states, ends = call('HMGET', STATES, unpack(ids)), call('ZMSCORE', LEASES, unpack(ids))
    local cancels = call('SMISMEMBER', CANCELS, unpack(ids))
    local leases, marks = {}, {}
    for i = 1, #ids do
        if states[i] == state and ends[i] and tonumber(ends[i]) > NOW then
            leases[#leases + 1] = lease_end
            leases[#leases + 1] = ids[i]
            marks[i] = cancels[i] == 1 and '2' or '1'
        else
            marks[i] = '0'
        end
    end
    if #leases > 0 then
        call('ZADD', LEASES, unpack(leases))
    end
    answers[#answers + 1] = table.concat(marks)
end
return { answers, call('SMEMBERS', PAUSED) }
