-- admit: store messages that a transport will carry; those due now are the caller's to publish.
--
-- ARGV[2]: as in send_unique; ARGV[3]: microseconds after which the outbox names what nobody lent.
-- uses: base job sending aside

local receipts = {}
for _, message in ipairs(cmsgpack.unpack(ARGV[2])) do
    local id, what = send_one(message)
    if what == 'c' then
        set_aside(load(id), tonumber(ARGV[3]))
    end
    receipts[#receipts + 1] = id
    receipts[#receipts + 1] = what
end
write_counts()
return { receipts, elsewhere }
