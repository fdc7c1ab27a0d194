-- outbox: due jobs that nobody published in time, and those whose lease ran out.
--
-- ARGV[2]: {queues, limit, again_after, recover}. Returns their values.
-- uses: base job fresh handing lending aside

local wanted = cmsgpack.unpack(ARGV[2])
call('ZREM', LEASES, '')
promote()
if wanted[4] then
    sweep()
end
local queues, limit, values = unpaused(wanted[1]), math.min(wanted[2], LOOKED), {}
for _, set in ipairs({ RECOVERED, READY }) do
    for _, queue in ipairs(queues) do
        if #values < limit then
            for _, member in ipairs(first_in(set, queue .. ':', limit - #values)) do
                local job = load(sub(member, #queue + 17))
                if job then
                    set_aside(job, wanted[3])
                    values[#values + 1] = job.value
                else
                    call('ZREM', set, member)
                end
            end
        end
    end
end
for _, queue in ipairs(queues) do
    while #values < limit do
        local place = oldest_fresh(queue)
        if not place then
            break
        end
        local job = load(sub(place, #queue + 17))
        set_aside(job, wanted[3])
        values[#values + 1] = job.value
    end
end
trim()
write_counts()
return values
