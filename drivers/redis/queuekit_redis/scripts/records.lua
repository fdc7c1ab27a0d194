-- records: all that is known of jobs, by id.
--
-- ARGV[2]: ids. Returns seven items a job: value, state, errors, results, progress, cancel, due; and the difference between wall
-- clock and the clock of due times.
-- uses: base
-- keys: jobs states errors results progress cancels due

local ids = cmsgpack.unpack(ARGV[2])
local found = {}
if #ids > 0 then
    local parts = {}
    for i, key in ipairs({ JOBS, STATES, ERRORS, RESULTS, PROGRESS }) do
        parts[i] = call('HMGET', key, unpack(ids))
    end
    parts[6] = call('SMISMEMBER', CANCELS, unpack(ids))
    parts[7] = call('ZMSCORE', DUE, unpack(ids))
    for i = 1, #ids do
        for part = 1, 7 do
            found[#found + 1] = parts[part][i]
        end
    end
end
return { found, WALL - NOW }
