-- Keeping a ready job out of the outbox for a while.
-- uses: base job

local function set_aside(job, microseconds)
    if job.code == 'p' and job.held == '-' then
        unplace(job)
        job.held = 'o'
        call('ZADD', DUE, NOW + microseconds, job.id)
        save(job)
    end
end
