-- send: store messages of any kind in their order; those with a known id are dropped.
--
-- ARGV[2]: a list of {0, queue, rank, ids, records} for plain messages that are due now, and {1, queue, rank, id, record, delay, at}
-- for others.
-- uses: base plain job sending

for _, item in ipairs(cmsgpack.unpack(ARGV[2])) do
    if item[1] == 0 then
        send_plain(item[2], item[3], item[4], item[5])
    elseif call('HEXISTS', JOBS, item[4]) == 0 then
        store({ item[2], item[3], item[4], item[5], item[6], item[7] })
    end
end
write_counts()
return {}
