-- prune: forget finished records of some queues past their retention, and rates that nobody uses any more.
--
-- ARGV[2]: {queues, most}. Returns how many.
-- uses: base job

local wanted = cmsgpack.unpack(ARGV[2])
local count = 0
for _, queue in ipairs(wanted[1]) do
    local most = math.min(wanted[2] - count, 1000)
    if most > 0 then
        local past = '(' .. queue .. ':' .. digits(NOW) .. ';'
        local members = call('ZRANGEBYLEX', FINISHED, '[' .. queue .. ':', past, 'LIMIT', 0, most)
        if #members > 0 then
            forget_finished(queue, members)
            count = count + #members
        end
    end
end
forget_rates(500)
write_counts()
return count
