-- published: these jobs are on the transport; the outbox names one only if it still waits later.
--
-- ARGV[2]: ids; ARGV[3]: microseconds.
-- uses: base job

for _, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    local job = load(id)
    if job and job.code == 'p' and job.held == 'o' then
        call('ZADD', DUE, NOW + tonumber(ARGV[3]), id)
    end
end
return {}
