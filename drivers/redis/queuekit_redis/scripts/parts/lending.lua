-- Lending: due jobs promoted, expired leases taken back, limits kept, hand-outs counted.
-- uses: base job fresh handing
-- keys: paused

-- Jobs promoted, and taken back, by one call, and jobs looked at to be lent: bounds on how long a script holds the server.
local MOST, LOOKED = 100, 250

local function promote()
    local ids = call('ZRANGEBYSCORE', DUE, '-inf', NOW, 'LIMIT', 0, MOST)
    if #ids == 0 then
        return
    end
    call('ZREM', DUE, unpack(ids))
    for _, id in ipairs(ids) do
        local job = load(id)
        if job and (job.code == 's' or job.code == 'p') then
            if job.code == 'p' and job.held == 'r' and call('HINCRBY', SPREAD, job.head.r[1], -1) <= 0 then
                call('HDEL', SPREAD, job.head.r[1])
            end
            place(job, NOW)
        end
    end
end

local function sweep()
    local ids = call('ZRANGEBYSCORE', LEASES, '-inf', NOW, 'LIMIT', 0, MOST)
    if #ids == 0 then
        return
    end
    call('ZREM', LEASES, unpack(ids))
    for _, id in ipairs(ids) do
        local job = load(id)
        if job and job.code == 'r' then
            leave_gate(job)
            if call('SISMEMBER', CANCELS, id) == 1 then
                finish(job, 'x', 'cancelled')
            else
                job.recovered = true
                change(job, 'p')
                job.held = '-'
                call('ZADD', RECOVERED, 0, job.place)
                ring(job.queue)
                save(job)
            end
        end
    end
end

local swept = false

local function sweep_rates()
    if not swept then
        swept = true
        forget_rates(5)
    end
end

-- Take one grant of a sliding window; nil when granted, else the moment at which to try again.
local function take_grant(rate)
    local key, limit, period = rate[1], rate[2], rate[3]
    local prefix = prefix_of(key)
    sweep_rates()
    call('ZREMRANGEBYLEX', GRANTS, '[' .. prefix, '(' .. prefix .. digits(NOW - period) .. ';')
    if call('ZLEXCOUNT', GRANTS, '[' .. prefix, '(' .. sub(prefix, 1, -2) .. ';') < limit then
        call('ZADD', GRANTS, 0, prefix .. digits(NOW) .. ':' .. call('HINCRBY', META, 'grants', 1))
        call('ZADD', RATES, NOW + period, key)
        return nil
    end
    local oldest = first_in(GRANTS, prefix)[1]
    local held = tonumber(call('HGET', SPREAD, key) or 0)
    return tonumber(sub(oldest, #prefix + 1, #prefix + 16)) + period * (1 + math.floor(held / limit))
end

-- Whether the limits let a job go now; if not, it is held where it will be woken.
local function pass_gates(job)
    local limit, rate = job.head.c, job.head.r
    if limit and tonumber(call('HGET', GATES, limit[1]) or 0) >= limit[2] then
        job.held = 'l'
        call('ZADD', WAITING, 0, gate_place(job))
        save(job)
        return false
    end
    local again = rate and take_grant(rate)
    if again then
        job.held = 'r'
        call('ZADD', DUE, again, job.id)
        call('HINCRBY', SPREAD, rate[1], 1)
        save(job)
        return false
    end
    if limit then
        call('HINCRBY', GATES, limit[1], 1)
    end
    return true
end

local function lend(job, lease_end)
    open_lending()
    change(job, 'r')
    job.attempt = job.attempt + 1
    job.settled, job.held, job.ending, job.token, job.started = false, '-', '', token, started
    if job.head.u and job.head.u[3] == 'start' then
        free_scope(job)
    end
    local note = job.attempt .. ' ' .. job.generation .. ' ' .. (job.recovered and '1' or '0')
    hand_out(job.id, job.value, state_of(job), note, lease_end)
end

-- Lend jobs whose lease ran out, highest priority first, to slots that will start them at once.
local function lend_recovered(queues, places, lease_end)
    local looked = 0
    while #lent_values < places and looked < LOOKED do
        local found = {}
        for _, queue in ipairs(queues) do
            for _, member in ipairs(first_in(RECOVERED, queue .. ':', places)) do
                found[#found + 1] = { sub(member, #queue + 2), member, sub(member, #queue + 17) }
            end
        end
        if #found == 0 then
            return
        end
        table.sort(found, function(one, two) return one[1] < two[1] end)
        for i = 1, math.min(#found, places - #lent_values) do
            looked = looked + 1
            call('ZREM', RECOVERED, found[i][2])
            local job = load(found[i][3])
            if job and pass_gates(job) then
                lend(job, lease_end)
            end
        end
    end
end

-- Take the next places of a queue out of the fresh list and out of what came back or has another priority, merged; also says which
-- come from the latter.
local function take_places(queue, want)
    local list = fresh_lists[queue]
    local new, old = call('LRANGE', list, 0, want - 1), first_in(READY, queue .. ':', want)
    if #old == 0 then
        if #new > 0 then
            call('LPOP', list, #new)
        end
        return new, {}
    end
    local merged, came_back, n, o = {}, {}, 1, 1
    while #merged < want and (new[n] or old[o]) do
        if not old[o] or (new[n] and new[n] < old[o]) then
            merged[#merged + 1], n = new[n], n + 1
        else
            merged[#merged + 1], o = old[o], o + 1
            came_back[#merged] = true
        end
    end
    if n > 1 then
        call('LPOP', list, n - 1)
    end
    if o > 1 then
        call('ZREMRANGEBYLEX', READY, '[' .. old[1], '[' .. old[o - 1])
    end
    return merged, came_back
end

local function lend_with_history(queue, id, value, state, lease_end)
    if not value then
        tally(queue, 'p', -1)
        call('HINCRBY', META, 'lost', 1)
        return
    end
    local job = job_of(id, value, state)
    if pass_gates(job) then
        lend(job, lease_end)
    end
end

local function lend_ready(queue, limit, lease_end)
    local looked = 0
    while #lent_values < limit and looked < LOOKED do
        local want = limit - #lent_values
        local places, came_back = take_places(queue, want)
        if #places == 0 then
            return
        end
        looked = looked + #places
        hand_out_new(queue, places, lease_end, function(i, id, value, state)
            if came_back[i] then
                lend_with_history(queue, id, value, state, lease_end)
            end
        end)
        if #places < want then
            return
        end
    end
    if call('LLEN', fresh_lists[queue]) > 0 or first_in(READY, queue .. ':')[1] then
        ring(queue)
    end
end

local function unpaused(queues)
    local shut, open = {}, {}
    for _, queue in ipairs(call('SMEMBERS', PAUSED)) do
        shut[queue] = true
    end
    for _, queue in ipairs(queues) do
        if not shut[queue] then
            open[#open + 1] = queue
        end
    end
    return open
end

-- Microseconds until time alone makes something due for this claim, to which ends of leases are nothing unless it takes back what
-- ran out; -1 when nothing waits for time.
local function next_change(recover)
    local due = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
    local lease_end = recover and call('ZRANGE', LEASES, 0, 0, 'WITHSCORES')[2]
    local first = math.min(tonumber(due or 'inf') or math.huge, tonumber(lease_end or 'inf') or math.huge)
    return first == math.huge and -1 or math.max(0, first - NOW)
end

-- wanted: {queues, limit, places, lease, recover}
local function claim(wanted)
    local queues, limit, places, lease_end = unpaused(wanted[1]), wanted[2], wanted[3], NOW + wanted[4]
    promote()
    if wanted[5] then
        sweep()
    end
    if places > 0 and call('EXISTS', RECOVERED) == 1 then
        lend_recovered(queues, places, lease_end)
    end
    for _, queue in ipairs(queues) do
        if #lent_values < limit then
            lend_ready(queue, limit, lease_end)
        end
    end
    write_lent()
    if #lent_values == 0 then
        return { '0', '0', {}, {}, next_change(wanted[5]), digits(NOW) }
    end
    local due = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2]
    if due and tonumber(due) - NOW <= SOON then
        ring(queues[1])
    end
    return { token, started, lent_values, lent_notes, -1, digits(NOW) }
end
