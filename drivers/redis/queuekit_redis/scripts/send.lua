-- send: store messages in their order; those with a known id are dropped.
--
-- ARGV[2]: a list of {0, queue, rank, ids, records} for plain messages that are due now, and {1, queue, rank, id, record, delay, at}
-- for others.
-- uses: base job sending fresh

local function stand(queue, rank, places)
    if rank == FRESH_RANK then
        call('RPUSH', fresh_lists[queue], unpack(places))
        return
    end
    local members = {}
    for i = 1, #places do
        members[2 * i - 1], members[2 * i] = 0, places[i]
    end
    call('ZADD', READY, unpack(members))
end

local function send_plain(queue, rank, ids, records)
    local known = call('HMGET', JOBS, unpack(ids))
    local seq = next_seq(#ids) - #ids
    local prefix, middle = queue .. ':' .. rank .. ':', '\n' .. digits(WALL) .. '\n'
    local jobs, order, ready, n = {}, {}, {}, 0
    for i = 1, #ids do
        if not known[i] then
            local id = ids[i]
            local member = prefix .. format('%012x', seq + i) .. ':' .. id
            jobs[n + 1], jobs[n + 2] = id, member .. middle .. records[i]
            order[n + 1], order[n + 2] = seq + i, id
            ready[n / 2 + 1] = member
            n = n + 2
        end
    end
    if n > 0 then
        call('HSET', JOBS, unpack(jobs))
        call('ZADD', ORDER, unpack(order))
        stand(queue, rank, ready)
        tally(queue, 'p', n / 2)
        ring(queue)
    end
end

for _, item in ipairs(cmsgpack.unpack(ARGV[2])) do
    if item[1] == 0 then
        send_plain(item[2], item[3], item[4], item[5])
    elseif call('HEXISTS', JOBS, item[4]) == 0 then
        store({ item[2], item[3], item[4], item[5], item[6], item[7] })
    end
end
write_counts()
return {}
