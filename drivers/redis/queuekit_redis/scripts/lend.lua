-- lend: lend these very jobs, as claim would.
--
-- ARGV[2]: ids; ARGV[3]: {lease, places, recover}. Returns one code a job (! lent, - unknown, else the state that forbids it), and
-- what claim returns for the lent ones.
-- uses: base job fresh handing lending

call('ZREM', LEASES, '')
local wanted = cmsgpack.unpack(ARGV[3])
promote()
if wanted[3] then
    sweep()
end
local codes, lease_end, places = {}, NOW + wanted[1], wanted[2]

local named = {}

local function lend_by_id(id)
    if named[id] then -- what is lent is written at the end
        return 'r'
    end
    local job = load(id)
    if not job or job.code ~= 'p' or not find('-ro', job.held, 1, true) then
        return job and job.code or '-'
    end
    if #unpaused({ job.queue }) == 0 or (job.recovered and places <= 0) then
        if job.held == 'o' then
            unplace(job)
            place(job, NOW)
        end
        return 'p'
    end
    unplace(job)
    job.held = '-'
    if not pass_gates(job) then
        return 'p'
    end
    places = places - (job.recovered and 1 or 0)
    lend(job, lease_end)
    named[id] = true
    return '!'
end

for i, id in ipairs(cmsgpack.unpack(ARGV[2])) do
    codes[i] = lend_by_id(id)
end
write_lent()
trim()
write_counts()
return { table.concat(codes), token or '0', started or '0', lent_values, lent_notes }
