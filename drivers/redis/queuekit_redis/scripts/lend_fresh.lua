-- lend_fresh: lend plain new jobs at the end of a wait: most wake-ups are about one, and this script has little to declare.
--
-- ARGV[2]: {queues, limit, lease}. Returns what claim does; nothing where more is to be looked at than plain new jobs.
-- uses: base fresh handing
-- keys: paused due recovered ready

call('ZREM', LEASES, '') -- as in settling: a full server can still be drained
local queues, limit, lease = unpack(cmsgpack.unpack(ARGV[2]))
local due = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
due = due and tonumber(due)
if call('EXISTS', PAUSED, RECOVERED) > 0 or (due and due <= NOW) then
    return false
end

local function lend_new(queue)
    local want = limit - #lent_values
    local places = call('LRANGE', fresh_lists[queue], 0, want - 1)
    if #places == 0 then
        return
    end
    call('LPOP', fresh_lists[queue], #places)
    hand_out_new(queue, places, NOW + lease)
    if #places == want and call('LLEN', fresh_lists[queue]) > 0 then
        ring(queue)
    end
end

for _, queue in ipairs(queues) do
    if #lent_values < limit then
        if first_in(READY, queue .. ':')[1] then
            if #lent_values == 0 then
                return false
            end
            ring(queue)
            break
        end
        lend_new(queue)
    end
end
write_lent()
if token and due and due - NOW <= 1000000 then
    ring(queues[1])
end
write_counts()
return { token or '0', started or '0', lent_values, lent_notes, -1, digits(NOW) }
