-- delete: remove jobs and their records; running ones are left alone.
--
-- ARGV[2]: ids. Returns as cancel does.
-- uses: base job

local before = {}
for i, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    local job = load(id)
    before[i] = job and job.code or '-'
    if before[i] == 'p' or before[i] == 's' then
        remove_waiting(job)
    elseif before[i] == 'c' or before[i] == 'f' or before[i] == 'x' then
        call('ZREM', FINISHED, shelf_place(job))
        tally(job.queue, job.code, -1)
        forget({ id })
    end
end
write_counts()
return { table.concat(before), elsewhere }
