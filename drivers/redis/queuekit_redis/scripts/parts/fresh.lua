-- The fresh list of a queue: places of plain jobs of middle priority that were due at once and never lent, in their order. Most jobs
-- are, and a list costs a tenth of a sorted set. An entry counts while its job exists in that place and has no state: whatever
-- happens to a job gives it one, and a job that comes back waits in `ready`.
-- uses: base
-- keys: jobs states

-- Whether the entries still count, and their ids and values.
local function look_at(places, from)
    local ids, good = {}, {}
    for i = 1, #places do
        ids[i] = sub(places[i], from)
    end
    local values, states = call('HMGET', JOBS, unpack(ids)), call('HMGET', STATES, unpack(ids))
    for i = 1, #places do
        good[i] = values[i] and not states[i] and find(values[i], places[i], 1, true) == 1
    end
    return good, ids, values, states
end

-- The first place that counts; entries before it are dropped, a thousand at most.
local function oldest_fresh(queue)
    local list = fresh_lists[queue]
    for _ = 1, 20 do
        local places = call('LRANGE', list, 0, 49)
        if #places == 0 then
            return nil
        end
        local good = look_at(places, #queue + 17)
        for i = 1, #places do
            if good[i] then
                return places[i]
            end
            call('LPOP', list)
        end
    end
end
