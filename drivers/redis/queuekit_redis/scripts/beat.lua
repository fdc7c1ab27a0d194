-- beat: remember a worker for a while, or strike it off; whoever is past its time goes too.
--
-- ARGV[2]: id; ARGV[3]: ttl in microseconds; ARGV[4]: how the worker describes itself.
-- uses: base
-- keys: workers

local ttl = tonumber(ARGV[3])
if ttl > 0 then
    call('HSET', WORKERS, ARGV[2], digits(NOW + ttl) .. ' ' .. digits(WALL) .. ' ' .. ARGV[4])
else
    call('HDEL', WORKERS, ARGV[2])
end
local entries = call('HGETALL', WORKERS)
for i = 2, #entries, 2 do
    if tonumber(sub(entries[i], 1, 16)) <= NOW then
        call('HDEL', WORKERS, entries[i - 1])
    end
end
return {}
