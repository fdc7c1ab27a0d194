-- Storing one message: {queue, rank, id, record, delay, at}; times in microseconds, `at` is -1 where there is none.
-- uses: base job

local function due_of(message)
    local due = NOW + message[5]
    if message[6] >= 0 then
        due = math.max(due, NOW + message[6] - WALL)
    end
    return due
end

local function store(message)
    local seq = next_seq(1)
    local queue, id = message[1], message[3]
    local member = queue .. ':' .. message[2] .. ':' .. format('%012x', seq) .. ':' .. id
    local value = member .. '\n' .. digits(WALL) .. '\n' .. message[4]
    call('HSET', JOBS, id, value)
    call('ZADD', ORDER, seq, id)
    local job = job_of(id, value, false)
    tally(queue, 'p', 1)
    if job.head.k then
        join_line(job, seq)
    end
    place(job, due_of(message))
    return job
end

local function holder_of(scope)
    local held = call('HGET', UNIQUES, scope)
    if not held then
        return nil
    end
    local id, last = match(held, '^(%S+) (%d+)$')
    last = tonumber(last)
    local job = (last == 0 or last > NOW) and load(id)
    return job and find('psr', job.code, 1, true) and job or nil
end

-- Put a message's body and options in place of an unstarted job's; its id, age and scope stay.
local function replace(job, message)
    unplace(job)
    leave_line(job)
    local stop = find(message[4], ':', 1, true)
    local head = head_of(message[4], 1)
    local rest = sub(message[4], stop + 1 + tonumber(sub(message[4], 2, stop - 1)))
    head.u = job.head.u
    local text = cjson.encode(head)
    local seq = match(job.place, ':(%x+):[^:]+$')
    local member = message[1] .. ':' .. message[2] .. ':' .. seq .. ':' .. job.id
    local accepted = match(job.value, '\n(%d+)\n')
    local value = member .. '\n' .. accepted .. '\nX' .. #text .. ':' .. text .. rest
    call('HSET', JOBS, job.id, value)
    tally(job.queue, job.code, -1)
    local new = job_of(job.id, value, state_of(job))
    tally(new.queue, new.code, 1)
    if new.head.k then
        join_line(new, next_seq(1))
    end
    place(new, due_of(message))
end

-- Returns the id that now stands for the message, and: c created, k known, r replaced.
local function send_one(message)
    local id = message[3]
    if call('HEXISTS', JOBS, id) == 1 then
        return id, 'k'
    end
    local unique = head_of(message[4], 1).u
    local holder = unique and holder_of(unique[1])
    if holder then
        local untouched = (holder.code == 'p' or holder.code == 's') and holder.attempt == 0
        if unique[4] ~= 'replace' or not untouched then
            return holder.id, 'k'
        end
        replace(holder, message)
        return holder.id, 'r'
    end
    store(message)
    if unique then
        local last = unique[2] > 0 and digits(NOW + unique[2]) or '0'
        call('HSET', UNIQUES, unique[1], id .. ' ' .. last)
    end
    return id, 'c'
end
