-- workers: those whose time has not run out, each "until seen description".
-- uses: base
-- keys: workers

local live = {}
for _, entry in ipairs(call('HVALS', WORKERS)) do
    if tonumber(sub(entry, 1, 16)) > NOW then
        live[#live + 1] = entry
    end
end
return live
