-- Time, counts and bells: what every transition needs.
--
-- ARGV[1] is the clock: empty for the server's own, else "now wall", both in microseconds (tests move a clock by hand).
-- Keys behind the declared ones are the bells, and where needed the fresh lists, of the queues that this call is about.
-- keys: counts

local call, sub, find, match, format, byte = redis.call, string.sub, string.find, string.match, string.format, string.byte

local function server_time()
    local time = call('TIME')
    return time[1] * 1000000 + time[2]
end

local NOW, WALL = match(ARGV[1], '^(%d+) (%d+)$')
local SERVER_TIME
if NOW then
    NOW, WALL = tonumber(NOW), tonumber(WALL)
else
    SERVER_TIME = server_time()
    NOW, WALL = SERVER_TIME, SERVER_TIME
end

-- Instants have 16 digits, so that they sort as text (until the year 2286).
local function digits(number)
    return format('%016.0f', number)
end

-- Members of a lexical set under `prefix`, which ends in a colon: the semicolon is the next character.
local function first_in(set, prefix, count)
    return call('ZRANGEBYLEX', set, '[' .. prefix, '(' .. sub(prefix, 1, -2) .. ';', 'LIMIT', 0, count or 1)
end

-- How many jobs of each queue are in which state; written once, at the end of a transition.
local changes = {}

local function tally(queue, code, number)
    local field = queue .. ':' .. code
    changes[field] = (changes[field] or 0) + number
end

local function write_counts()
    for field, number in pairs(changes) do
        if number ~= 0 and call('HINCRBY', COUNTS, field, number) <= 0 then
            call('HDEL', COUNTS, field)
        end
    end
end

-- A bell is a list of at most one mark, on which one idle process wakes. Queues whose bell was not declared are named in the
-- reply, and the client rings there in a second call.
local bells, rung, elsewhere, fresh_lists = {}, {}, {}, {}
for i = DECLARED + 1, #KEYS do
    local kind, queue = match(KEYS[i], '}:(%l+):(.+)$')
    if kind == 'wake' then
        bells[queue] = KEYS[i]
    else
        fresh_lists[queue] = KEYS[i]
    end
end

local function ring(queue)
    if rung[queue] then
        return
    end
    rung[queue] = true
    local bell = bells[queue]
    if not bell then
        elsewhere[#elsewhere + 1] = queue
    elseif call('LLEN', bell) == 0 then
        call('RPUSH', bell, '1')
    end
end
