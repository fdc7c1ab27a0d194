-- send_one: store a plain message that is due now, unless its id is known.
--
-- ARGV[2] to ARGV[5]: queue, rank, id, record.
-- uses: base plain

send_one(ARGV[2], ARGV[3], ARGV[4], ARGV[5])
write_counts()
return {}
