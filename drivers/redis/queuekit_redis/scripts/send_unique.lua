-- send_unique: store messages, one unfinished job a scope. Check and insertion are this one script.
--
-- ARGV[2]: a list of {queue, rank, id, record, delay, at}. Returns per message the id that stands for it and what became of it.
-- uses: base job sending

local receipts = {}
for _, message in ipairs(cmsgpack.unpack(ARGV[2])) do
    local id, what = send_one(message)
    receipts[#receipts + 1] = id
    receipts[#receipts + 1] = what
end
write_counts()
return { receipts, elsewhere }
