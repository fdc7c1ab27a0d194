-- nudge: end one wait, by a mark on the bell that its connection has of its own. Should the wait have ended just now, the mark goes
-- by itself.
-- uses: base

for queue, bell in pairs(bells) do
    ring(queue)
    call('PEXPIRE', bell, 10000)
end
return {}
