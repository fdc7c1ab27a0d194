-- lend: lend these very jobs, as claim would.
--
-- ARGV[2]: ids; ARGV[3]: {lease, recover, free}. Returns one code a job (! lent, - unknown, else the state that forbids it), and what
-- claim returns for the lent ones.
-- uses: base job lending

call('ZREM', LEASES, '')
local wanted = cmsgpack.unpack(ARGV[3])
promote()
if wanted[2] then
    sweep()
end
local codes, lease_end, free = {}, NOW + wanted[1], wanted[3]
for i, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    local job = load(id)
    local waits = job and job.code == 'p' and find('-ro', job.held, 1, true)
    if waits and (#unpaused({ job.queue }) == 0 or (job.recovered and free <= 0)) then
        if job.held == 'o' then -- its ticket is gone: the outbox shall name it again
            unplace(job)
            place(job, NOW)
        end
        codes[i] = 'p'
    elseif waits then
        unplace(job)
        job.held = '-'
        if pass_gates(job) then
            free = free - (job.recovered and 1 or 0)
            lend(job, lease_end)
            codes[i] = '!'
        else
            codes[i] = 'p'
        end
    else
        codes[i] = job and job.code or '-'
    end
end
write_lent()
trim()
write_counts()
return { table.concat(codes), token or '0', started or '0', lent_values, lent_notes }
