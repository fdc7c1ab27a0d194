-- count: the numbers of jobs by queue and state, and when the oldest that could run was accepted.
--
-- ARGV[2]: queues. Returns the counts, the paused queues, and pairs of queue and age in microseconds.
-- uses: base fresh
-- keys: jobs ready recovered paused

local counts = call('HGETALL', COUNTS)
-- A place's order of acceptance, and its id.
local function split(queue, place)
    return { sub(place, #queue + 4, #queue + 15), sub(place, #queue + 17) }
end

-- The oldest of each priority stands first among its own; the oldest of all is one of those.
local function oldest(set, queue)
    local first
    local at = '[' .. queue .. ':'
    while true do
        local member = call('ZRANGEBYLEX', set, at, '(' .. queue .. ';', 'LIMIT', 0, 1)[1]
        if not member then
            return first
        end
        local one = split(queue, member)
        if not first or one[1] < first[1] then
            first = one
        end
        at = '[' .. sub(member, 1, #queue + 2) .. ';'
    end
end

local ages = {}
for _, queue in ipairs(cmsgpack.unpack(ARGV[2])) do
    local first
    local fresh = oldest_fresh(queue)
    local candidates = { oldest(READY, queue) or false, oldest(RECOVERED, queue) or false, fresh and split(queue, fresh) }
    for _, one in pairs(candidates) do
        if one and (not first or one[1] < first[1]) then
            first = one
        end
    end
    local value = first and call('HGET', JOBS, first[2])
    if value then
        ages[#ages + 1] = queue
        ages[#ages + 1] = WALL - tonumber(match(value, '\n(%d+)\n'))
    end
end
return { counts, call('SMEMBERS', PAUSED), ages }
