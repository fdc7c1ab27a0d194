-- exchange: settle, then claim, in one go.
--
-- ARGV[2], ARGV[3] as in settle; ARGV[4] as ARGV[2] in claim. Returns what both return.
-- uses: base job sending settling fresh handing lending

local answers = settle(cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3]))
local lent = claim(cmsgpack.unpack(ARGV[4]))
trim()
write_counts()
return { answers, elsewhere, lent }
