-- prune_older: forget finished records of one queue that ended long enough ago, looking at a part of them.
--
-- ARGV[2]: {queue, after, look, most, age}. Returns how many, and the member that was reached (empty at the end).
-- uses: base job

local queue, after, look, most, age = unpack(cmsgpack.unpack(ARGV[2]))
local from = after == '' and '[' .. queue .. ':' or '(' .. after
local members = call('ZRANGEBYLEX', FINISHED, from, '(' .. queue .. ';', 'LIMIT', 0, look)
local old = {}
for _, member in ipairs(members) do
    local state = call('HGET', STATES, sub(member, #queue + 19))
    local ended_at = state and tonumber(match(state, '^%a %d+ %d+ %S+ %d+ %d+ (%d+)'))
    if #old < most and (not ended_at or WALL - ended_at >= age) then
        old[#old + 1] = member
    end
end
if #old > 0 then
    forget_finished(queue, old)
end
write_counts()
return { #old, #members < look and '' or members[#members] }
