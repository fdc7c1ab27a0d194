-- Storing plain messages of one queue and priority that are due now. Those of middle priority stand in the queue's fresh list
-- (`fresh.lua`).
-- uses: base
-- keys: jobs order ready meta

local FRESH_RANK = '5'

local function place_of(queue, rank, seq, id)
    return format('%s:%s:%012x:%s', queue, rank, seq, id)
end

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

local function value_of(place, record)
    return place .. '\n' .. digits(WALL) .. '\n' .. record
end

local function send_plain(queue, rank, ids, records)
    local known = call('HMGET', JOBS, unpack(ids))
    local seq = call('HINCRBY', META, 'seq', #ids) - #ids
    local jobs, order, ready, n = {}, {}, {}, 0
    for i = 1, #ids do
        if not known[i] then
            local place = place_of(queue, rank, seq + i, ids[i])
            jobs[n + 1], jobs[n + 2] = ids[i], value_of(place, records[i])
            order[n + 1], order[n + 2] = seq + i, ids[i]
            ready[n / 2 + 1] = place
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

-- The same for one, by the shortest way: a single dispatch is the commonest of all.
local function send_one(queue, rank, id, record)
    local seq = call('HINCRBY', META, 'seq', 1)
    local place = place_of(queue, rank, seq, id)
    if call('HSETNX', JOBS, id, value_of(place, record)) == 1 then
        call('ZADD', ORDER, seq, id)
        stand(queue, rank, { place })
        tally(queue, 'p', 1)
        ring(queue)
    end
end
