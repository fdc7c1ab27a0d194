-- count: the numbers of jobs by queue and state, and when the oldest that could run was accepted.
--
-- ARGV[2]: queues, empty for all. Returns the counts, the paused queues, and pairs of queue and age in microseconds.
-- uses: base
-- keys: jobs ready recovered paused

local counts = call('HGETALL', COUNTS)
local queues = cmsgpack.unpack(ARGV[2])
if #queues == 0 then
    local seen = {}
    for i = 1, #counts, 2 do
        local queue = match(counts[i], '^(.*):%a$')
        if not seen[queue] then
            seen[queue] = true
            queues[#queues + 1] = queue
        end
    end
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
        local rank, seq, id = sub(member, #queue + 2, #queue + 2), sub(member, #queue + 4, #queue + 15), sub(member, #queue + 17)
        if not first or seq < first[1] then
            first = { seq, id }
        end
        at = '[' .. queue .. ':' .. rank .. ';'
    end
end

local ages = {}
for _, queue in ipairs(queues) do
    local one, two = oldest(READY, queue), oldest(RECOVERED, queue)
    if two and (not one or two[1] < one[1]) then
        one = two
    end
    local value = one and call('HGET', JOBS, one[2])
    if value then
        ages[#ages + 1] = queue
        ages[#ages + 1] = WALL - tonumber(match(value, '\n(%d+)\n'))
    end
end
return { counts, call('SMEMBERS', PAUSED), ages }
