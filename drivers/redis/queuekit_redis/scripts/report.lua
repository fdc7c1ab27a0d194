-- report: store the newest progress of running jobs.
--
-- ARGV[2]: a list of {id, state, progress}. Returns one character a report: 1 stored, 0 not the reporter's lease any more.
-- uses: base
-- keys: states progress

local marks = {}
for i, report in ipairs(cmsgpack.unpack(ARGV[2])) do
    local holds = call('HGET', STATES, report[1]) == report[2]
    if holds then
        call('HSET', PROGRESS, report[1], report[3])
    end
    marks[i] = holds and '1' or '0'
end
return table.concat(marks)
