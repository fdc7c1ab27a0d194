-- send_plain: store plain messages that are due now, in their order; those with a known id are dropped.
--
-- Most messages are, so this script has little to declare. ARGV[2]: a list of {queue, rank, ids, records}.
-- uses: base plain

for _, run in ipairs(cmsgpack.unpack(ARGV[2])) do
    send_plain(run[1], run[2], run[3], run[4])
end
write_counts()
return {}
