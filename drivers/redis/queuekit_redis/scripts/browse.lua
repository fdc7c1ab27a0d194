-- browse: ids in order of acceptance that may match; the client looks closer.
--
-- ARGV[2]: {after, count, codes, queue, text}; empty codes, queue or text: any. Returns ids with their places in the order, and the
-- place that was reached (-1 at the end).
-- uses: base
-- keys: jobs states order

local after, count, codes, queue, text = unpack(cmsgpack.unpack(ARGV[2]))
local entries = call('ZRANGEBYSCORE', ORDER, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
local ids, found = {}, {}
for i = 1, #entries, 2 do
    ids[#ids + 1] = entries[i]
end
if #ids == 0 then
    return { {}, '-1' }
end
local values, states = call('HMGET', JOBS, unpack(ids)), call('HMGET', STATES, unpack(ids))
for i = 1, #ids do
    local value = values[i]
    local code = states[i] and sub(states[i], 1, 1) or 'p'
    if value and (codes == '' or find(codes, code, 1, true))
        and (queue == '' or sub(value, 1, #queue + 1) == queue .. ':')
        and (text == '' or find(value, text, 1, true)) then
        found[#found + 1] = ids[i]
        found[#found + 1] = entries[2 * i]
    end
end
return { found, #ids < count and '-1' or entries[#entries] }
