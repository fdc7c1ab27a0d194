-- Storing plain messages of one queue and priority that are due now. Those of middle priority stand in the queue's fresh list
-- (`fresh.lua`).
-- uses: base
-- keys: jobs order ready meta

local FRESH_RANK = '5'

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
    local seq = call('HINCRBY', META, 'seq', #ids) - #ids
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
