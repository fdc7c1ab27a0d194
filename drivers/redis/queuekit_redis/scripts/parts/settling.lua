-- Settling: judged by the token alone.
-- uses: base job sending

-- Writes of a script are refused for lack of memory until it has made its first one: removing nothing is such a first one, so that
-- a full server can still be drained.
call('ZREM', LEASES, '')

local function note(job, error)
    if not error then
        return
    end
    local kept = call('HGET', ERRORS, job.id)
    local text = kept and kept .. '\n' .. error or error
    local _, lines = string.gsub(text, '\n', '')
    while lines >= MAX_ERRORS do
        text = sub(text, find(text, '\n', 1, true) + 1)
        lines = lines - 1
    end
    call('HSET', ERRORS, job.id, text)
end

-- Give a job back, or end it as cancelled where that was asked for.
local function give_back(job, outcome)
    if call('SISMEMBER', CANCELS, job.id) == 1 then
        finish(job, 'x', 'cancelled')
        return
    end
    if outcome.record then
        job.value = sub(job.value, 1, job.record - 1) .. outcome.record
        job.head = head_of(job.value, job.record)
        call('HSET', JOBS, job.id, job.value)
    end
    place(job, NOW + outcome.delay)
end

local function apply(job, outcome)
    call('ZREM', LEASES, job.id)
    leave_gate(job)
    job.settled, job.recovered = true, false
    local kind = outcome.kind
    if kind == 'done' then
        if outcome.result then
            call('HSET', RESULTS, job.id, outcome.result)
        end
        finish(job, 'c', '')
    elseif kind == 'again' then
        note(job, outcome.error)
        give_back(job, outcome)
    elseif kind == 'released' then
        job.attempt = job.attempt - 1
        give_back(job, outcome)
    else
        note(job, outcome.error)
        finish(job, outcome.code, outcome.reason)
    end
    for _, message in ipairs(outcome.follow_ups or {}) do
        send_one(message)
    end
end

-- a applied, s settled before, l lost.
local function settle_one(outcome)
    local job = load(outcome.id)
    if not job or job.token ~= outcome.token or job.generation ~= outcome.generation then
        return 'l'
    end
    if job.code ~= 'r' then
        return job.settled and 's' or 'l'
    end
    apply(job, outcome)
    return 'a'
end

-- Keep records of plain successes of one queue.
local function keep(queue, ending, forget_time, ids)
    local shelf, states, members = queue .. ':' .. forget_time .. ':', {}, {}
    for i = 1, #ids do
        states[2 * i - 1], states[2 * i] = ids[i], ending
        members[2 * i - 1], members[2 * i] = 0, shelf .. ids[i]
    end
    call('HSET', STATES, unpack(states))
    call('ZADD', FINISHED, unpack(members))
    tally(queue, 'c', #ids)
    ended[queue] = (ended[queue] or 0) + #ids
end

-- Plain successes of one queue that were lent in one state, all to be kept or all to be forgotten. Nothing about them has to be read
-- but that state.
local function complete(queue, state, forgotten, ids)
    local now = call('HMGET', STATES, unpack(ids))
    local answers, good = {}, {}
    local attempt, generation, rest = match(state, '^r (%d+) (%d+) %d%d%-( .+)$')
    for i = 1, #ids do
        if now[i] == state then
            good[#good + 1] = ids[i]
            answers[i] = 'a'
        else
            local token = match(rest, '^ (%d+)')
            answers[i] = settle_one({ kind = 'done', id = ids[i], token = token, generation = tonumber(generation) })
        end
    end
    if #good > 0 then
        call('ZREM', LEASES, unpack(good))
        if call('EXISTS', CANCELS) == 1 then
            call('SREM', CANCELS, unpack(good))
        end
        tally(queue, 'r', -#good)
        if forgotten then
            forget(good)
        else
            local forget_time = forget_at(RETAIN)
            local ending = 'c ' .. attempt .. ' ' .. generation .. ' 01-' .. rest .. ' ' .. digits(WALL) .. ' ' .. forget_time .. ' '
            keep(queue, ending, forget_time, good)
        end
    end
    return table.concat(answers)
end

-- groups: plain successes; outcomes: everything else. Returns the answers of each group, then of the outcomes.
local function settle(groups, outcomes)
    local answers = {}
    for i, group in ipairs(groups) do
        answers[i] = complete(group[1], group[2], group[3], group[4])
    end
    local others = {}
    for i, outcome in ipairs(outcomes) do
        others[i] = settle_one(outcome)
    end
    answers[#answers + 1] = table.concat(others)
    return answers
end
