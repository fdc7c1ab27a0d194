-- ring: wake one idle process of each queue whose bell is among the keys.
-- uses: base

for queue in pairs(bells) do
    ring(queue)
end
return {}
