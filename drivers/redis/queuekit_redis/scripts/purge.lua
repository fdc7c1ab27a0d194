-- purge: delete a part of a queue's pending and scheduled jobs.
--
-- ARGV[2]: {queue, after, count}. Returns how many were deleted, and the place in the order that was reached (-1 at the end).
-- uses: base job fresh

local queue, after, count = unpack(cmsgpack.unpack(ARGV[2]))
local entries = call('ZRANGEBYSCORE', ORDER, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
local deleted = 0
for i = 1, #entries, 2 do
    local value = call('HGET', JOBS, entries[i])
    if value and sub(value, 1, #queue + 1) == queue .. ':' then
        local job = load(entries[i])
        if job.code == 'p' or job.code == 's' then
            remove_waiting(job)
            deleted = deleted + 1
        end
    end
end
oldest_fresh(queue)
write_counts()
return { deleted, #entries < 2 * count and '-1' or entries[#entries], elsewhere }
