-- retry: start failed or cancelled jobs over, as the last of their key.
--
-- ARGV[2]: ids. Returns as cancel does.
-- uses: base job

local before = {}
for i, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    local job = load(id)
    before[i] = job and job.code or '-'
    if before[i] == 'f' or before[i] == 'x' then
        call('ZREM', FINISHED, shelf_place(job))
        call('HDEL', PROGRESS, id)
        job.generation = job.generation + 1
        job.attempt, job.recovered, job.settled = 0, false, false
        if job.head.k then
            join_line(job, next_seq(1))
        end
        place(job, NOW)
    end
end
write_counts()
return { table.concat(before), elsewhere }
