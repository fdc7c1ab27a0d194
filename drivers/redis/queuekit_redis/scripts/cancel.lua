-- cancel: end what waits, flag what runs.
--
-- ARGV[2]: ids. Returns one code a job: its state before, or - where there is none; and the queues to ring elsewhere.
-- uses: base job

local before = {}
for i, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    local job = load(id)
    before[i] = job and job.code or '-'
    if before[i] == 'p' or before[i] == 's' then
        unplace(job)
        finish(job, 'x', 'cancelled')
    elseif before[i] == 'r' then
        call('SADD', CANCELS, id)
    end
end
trim()
write_counts()
return { table.concat(before), elsewhere }
