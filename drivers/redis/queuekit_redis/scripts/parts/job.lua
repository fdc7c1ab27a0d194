-- One job: reading it, writing it, and where it waits.
--
-- A job's value is "queue:rank:seq:id \n accepted \n record"; the part before the first newline is its place. The record is
-- "P<type>\n<body>", "F<type>\n<body>" for a job that is forgotten at its end, or "X<length>:<head><type>\n<body>" where the head is JSON: k key, c concurrency [key, limit],
-- r rate [key, limit, period], u unique [scope, ttl, until, on_conflict], t seconds to retain, g tags.
-- A job's state is "code attempt generation flags token started[ finished forget reason]". Codes: p pending, s scheduled,
-- r running, c completed, f failed, x cancelled. Flags: recovered, settled, and what holds it: - nothing, k its key, l its
-- concurrency limit, r its rate, o an outbox. A job without a state is pending and was never lent.
-- keys: jobs states order ready recovered due leases lines turns gates waiting grants rates spread uniques cancels
-- keys: finished errors results progress meta

local PLAIN, FORGOTTEN = {}, { t = 0 }

local function head_of(text, at)
    local kind = byte(text, at)
    if kind ~= 88 then
        return kind == 70 and FORGOTTEN or PLAIN
    end
    local colon = find(text, ':', at, true)
    local length = tonumber(sub(text, at + 1, colon - 1))
    return cjson.decode(sub(text, colon + 1, colon + length))
end

local function job_of(id, value, state)
    local stop = find(value, '\n', 1, true)
    local job = { id = id, value = value, place = sub(value, 1, stop - 1), record = stop + 18 }
    job.queue = match(job.place, '^([^:]+):')
    job.head = head_of(value, job.record)
    if state then
        local code, attempt, generation, recovered, settled, held, token, started, ending =
            match(state, '^(%a) (%d+) (%d+) (%d)(%d)(.) (%d+) (%d+)(.*)$')
        job.code, job.attempt, job.generation = code, tonumber(attempt), tonumber(generation)
        job.recovered, job.settled, job.held = recovered == '1', settled == '1', held
        job.token, job.started, job.ending = token, started, ending
    else
        job.code, job.attempt, job.generation = 'p', 0, 0
        job.recovered, job.settled, job.held = false, false, '-'
        job.token, job.started, job.ending = '0', '0', ''
    end
    return job
end

local function load(id)
    local value = call('HGET', JOBS, id)
    return value and job_of(id, value, call('HGET', STATES, id))
end

local function state_of(job)
    local flags = (job.recovered and '1' or '0') .. (job.settled and '1' or '0') .. job.held
    return job.code .. ' ' .. job.attempt .. ' ' .. job.generation .. ' ' .. flags .. ' ' .. job.token .. ' ' .. job.started .. job.ending
end

local function save(job)
    call('HSET', STATES, job.id, state_of(job))
end

local function change(job, code)
    tally(job.queue, job.code, -1)
    tally(job.queue, code, 1)
    job.code = code
end

local function next_seq(number)
    return call('HINCRBY', META, 'seq', number)
end

-- ------------------------------------------------------------------------------------------------------------ keys

local function prefix_of(key)
    return #key .. ':' .. key .. ':'
end

-- Grants of rates that nobody has used for a whole period are of no use any more; up to `most` rates at once.
local function forget_rates(most)
    for _, key in ipairs(call('ZRANGEBYSCORE', RATES, '-inf', NOW, 'LIMIT', 0, most)) do
        local prefix = prefix_of(key)
        call('ZREMRANGEBYLEX', GRANTS, '[' .. prefix, '(' .. sub(prefix, 1, -2) .. ';')
        call('ZREM', RATES, key)
    end
end

local function join_line(job, seq)
    local member = prefix_of(job.head.k) .. format('%012x', seq) .. ':' .. job.id
    call('ZADD', LINES, 0, member)
    call('HSET', TURNS, job.id, member)
end

local function has_turn(job)
    local prefix = prefix_of(job.head.k)
    local first = first_in(LINES, prefix)[1]
    return first == nil or sub(first, #prefix + 14) == job.id
end

-- ---------------------------------------------------------------------------------------------------- where it waits

local SOON = 1000000

local function place(job, due)
    job.held = '-'
    job.ending = ''
    if due > NOW then
        change(job, 's')
        call('ZADD', DUE, due, job.id)
        if due - NOW <= SOON then
            ring(job.queue)
        end
    else
        change(job, 'p')
        if job.head.k and not has_turn(job) then
            job.held = 'k'
        else
            call('ZADD', job.recovered and RECOVERED or READY, 0, job.place)
            ring(job.queue)
        end
    end
    save(job)
end

local function gate_place(job)
    return prefix_of(job.head.c[1]) .. sub(job.place, #job.queue + 2)
end

-- What stands in a fresh list needs no removal: it is passed over once it has a state.
local function unplace(job)
    if job.code == 's' or job.held == 'r' or job.held == 'o' then
        call('ZREM', DUE, job.id)
        if job.code == 'p' and job.held == 'r' and call('HINCRBY', SPREAD, job.head.r[1], -1) <= 0 then
            call('HDEL', SPREAD, job.head.r[1])
        end
    elseif job.held == 'l' then
        call('ZREM', WAITING, gate_place(job))
    elseif job.held == '-' then
        call('ZREM', job.recovered and RECOVERED or READY, job.place)
    end
end

-- A key's turn goes to the next job in its line.
local function leave_line(job)
    local member = job.head.k and call('HGET', TURNS, job.id)
    if not member then
        return
    end
    local prefix = prefix_of(job.head.k)
    local first = first_in(LINES, prefix)[1]
    call('ZREM', LINES, member)
    call('HDEL', TURNS, job.id)
    local follower = first == member and first_in(LINES, prefix)[1]
    local heir = follower and load(sub(follower, #prefix + 14))
    if heir and heir.code == 'p' and heir.held == 'k' then
        place(heir, NOW)
    end
end

-- A place under a concurrency limit goes to whoever waits for it, highest priority first.
local function leave_gate(job)
    local limit = job.head.c
    if not limit then
        return
    end
    local running = call('HINCRBY', GATES, limit[1], -1)
    local prefix = prefix_of(limit[1])
    local first = first_in(WAITING, prefix)[1]
    if first then
        call('ZREM', WAITING, first)
        local heir = load(sub(first, #prefix + 16))
        if heir then
            place(heir, NOW)
        end
    end
    if running <= 0 then
        call('HDEL', GATES, limit[1])
    end
end

local function free_scope(job)
    local unique = job.head.u
    local held = unique and call('HGET', UNIQUES, unique[1])
    if held and match(held, '^(%S+)') == job.id then
        call('HDEL', UNIQUES, unique[1])
    end
end

-- --------------------------------------------------------------------------------------------------------- the end

local function forget(ids)
    call('HDEL', JOBS, unpack(ids))
    call('HDEL', STATES, unpack(ids))
    call('ZREM', ORDER, unpack(ids))
    for _, hash in ipairs({ ERRORS, RESULTS, PROGRESS }) do
        if call('EXISTS', hash) == 1 then
            call('HDEL', hash, unpack(ids))
        end
    end
end

local ended = {}

local function shelf_place(job)
    return job.queue .. ':' .. match(job.ending, '^ %d+ (%d+)') .. ':' .. job.id
end

-- Members of `finished` and the records behind them.
local function forget_finished(queue, members)
    local ids = {}
    for i = 1, #members do
        ids[i] = sub(members[i], #queue + 19)
    end
    local states = call('HMGET', STATES, unpack(ids))
    call('ZREM', FINISHED, unpack(members))
    for i = 1, #ids do
        if states[i] then
            tally(queue, sub(states[i], 1, 1), -1)
        end
    end
    forget(ids)
end

-- Let go of what is past its retention, else of the oldest beyond the most that a queue keeps. Twice as many as came in: a
-- bound on the work, and yet the shelf shrinks.
local function trim()
    for queue, number in pairs(ended) do
        local most = math.min(2 * number + 10, 1000)
        local past = '(' .. queue .. ':' .. digits(NOW) .. ';'
        local members = call('ZRANGEBYLEX', FINISHED, '[' .. queue .. ':', past, 'LIMIT', 0, most)
        if #members == 0 then
            local beyond = call('ZLEXCOUNT', FINISHED, '[' .. queue .. ':', '(' .. queue .. ';') - MAX_FINISHED
            members = beyond > 0 and first_in(FINISHED, queue .. ':', math.min(beyond, most)) or members
        end
        if #members > 0 then
            forget_finished(queue, members)
        end
    end
end

local function forget_at(retain)
    return digits(math.min(NOW + retain * 1000000, 9e15))
end

local function finish(job, code, reason)
    change(job, code)
    job.held = '-'
    call('SREM', CANCELS, job.id)
    free_scope(job)
    leave_line(job)
    local retain = job.head.t or (code == 'c' and RETAIN or FAILED_RETAIN)
    if retain <= 0 then
        tally(job.queue, code, -1)
        forget({ job.id })
        return
    end
    job.ending = ' ' .. digits(WALL) .. ' ' .. forget_at(retain) .. ' ' .. reason
    call('ZADD', FINISHED, 0, shelf_place(job))
    ended[job.queue] = (ended[job.queue] or 0) + 1
    save(job)
end

-- Take what waits out of everything, with its record.
local function remove_waiting(job)
    free_scope(job)
    unplace(job)
    leave_line(job)
    tally(job.queue, job.code, -1)
    forget({ job.id })
end
