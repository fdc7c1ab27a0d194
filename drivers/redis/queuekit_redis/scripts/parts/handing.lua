-- Handing out: the token and the leases of what this call lends, written at its end.
-- uses: base fresh
-- keys: states leases meta

-- Tokens start from the server's time and only grow, so that none is used twice, not even after the data were lost.
local token, started, fresh
local lent_values, lent_notes, lent_states, lent_leases = {}, {}, {}, {}

local function open_lending()
    if not token then
        local number = math.max(SERVER_TIME or server_time(), tonumber(call('HGET', META, 'token') or 0) + 1)
        token, started = digits(number), digits(WALL)
        fresh = 'r 1 0 00- ' .. token .. ' ' .. started
        call('HSET', META, 'token', token)
    end
end

local function hand_out(id, value, state, note, lease_end)
    local n = #lent_values + 1
    lent_values[n], lent_notes[n] = value, note
    lent_states[2 * n - 1], lent_states[2 * n] = id, state
    lent_leases[2 * n - 1], lent_leases[2 * n] = lease_end, id
end

local function write_lent()
    if #lent_values > 0 then
        call('HSET', STATES, unpack(lent_states))
        call('ZADD', LEASES, unpack(lent_leases))
    end
end

-- Hand out the plain new jobs among these places; `otherwise` gets the rest.
local function hand_out_new(queue, places, lease_end, otherwise)
    open_lending()
    local good, ids, values, states = look_at(places, #queue + 17)
    local plain = 0
    for i = 1, #places do
        if good[i] and byte(values[i], #places[i] + 19) ~= 88 then
            plain = plain + 1
            hand_out(ids[i], values[i], fresh, '', lease_end)
        elseif otherwise then
            otherwise(i, ids[i], values[i], states[i])
        end
    end
    tally(queue, 'p', -plain)
    tally(queue, 'r', plain)
end
