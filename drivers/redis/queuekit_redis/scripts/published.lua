-- published: these jobs are on the transport; the outbox names one only if it still waits later.
--
-- ARGV[2]: ids; ARGV[3]: microseconds until then; ARGV[4]: for each id, microseconds from now by which it is named otherwise, unless it
-- was set aside anew since its ticket left.
-- uses: base job

local bounds = cmsgpack.unpack(ARGV[4])
for number, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    local job = load(id)
    local due = job and job.code == 'p' and job.held == 'o' and call('ZSCORE', DUE, id)
    if due and tonumber(due) <= NOW + bounds[number] then
        call('ZADD', DUE, NOW + tonumber(ARGV[3]), id)
    end
end
return {}
