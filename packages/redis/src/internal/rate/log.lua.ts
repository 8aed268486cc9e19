/** The log of calls, as a part of `states`. @internal */
export const log = `
-- A list of the times of the last calls for each window. That of a reservation is to come: "<time>|<written>". The last key
-- has the names of all windows, under whatever rates.
function makers.l()
local log = {}

local function timeOf(entry)
  local time, written = match(entry, '^(%d+)|?(%d*)$')
  return tonumber(time), tonumber(written) or tonumber(time)
end

local function entryAt(key, index)
  return (timeOf(call('LINDEX', key, index)))
end

-- Of entries in order, the first index from which they are later than so.
local function firstAfter(key, length, time)
  local low, high, step = 0, length, 1
  while low < high do
    -- Few are over, mostly: look at the near ones first.
    local middle = min(floor((low + high) / 2), low + step - 1)
    if entryAt(key, middle) <= time then
      low = middle + 1
      step = step * 2
    else
      high = middle
    end
  end
  return low
end

local function push(key, entry, n)
  local batch = {}
  for i = 1, min(n, 1000) do batch[i] = entry end
  while n > 0 do
    call('RPUSH', key, unpack(batch, 1, min(n, 1000)))
    n = n - 1000
  end
end

-- The names are there for as long as any of the lists.
local function keep(rate, state, till)
  local millis = ceil((till + rate.micros - now) / 1000) + 1
  call('PEXPIRE', state.key, millis)
  call('SADD', state.names, rate.name)
  if call('PTTL', state.names) < millis then call('PEXPIRE', state.names, millis) end
end

function log.open(rates, _, keys)
  local opened = { others = {}, from = now }
  for i, rate in ipairs(rates) do
    local state = { key = keys[i], names = keys[#rates + 1], length = call('LLEN', keys[i]) }
    if state.length > 0 then
      local last, written = timeOf(call('LINDEX', state.key, -1))
      if written > now then
        -- The clock went back: what is to come counts from now.
        local start = firstAfter(state.key, state.length, now)
        if start == 0 then call('DEL', state.key) else call('LTRIM', state.key, 0, start - 1) end
        push(state.key, format('%d', now), state.length - start)
        keep(rate, state, now)
      elseif last > opened.from then
        opened.from = last
      end
    end
    opened[i] = state
  end
  for i, rate in ipairs(rates) do
    local state = opened[i]
    state.first = firstAfter(state.key, state.length, opened.from - rate.micros)
  end
  return opened
end

function log.left(rate, state)
  return max(0, rate.cap - (state.length - state.first))
end

function log.ready(rate, state, from, n)
  local over = state.length - state.first + n - rate.cap
  return over <= 0 and from or max(from, entryAt(state.key, state.first + over - 1) + rate.micros)
end

function log.charge(rate, state, at, n)
  local live = state.length - state.first
  local added = min(n, rate.cap)
  -- Of more than the limit the oldest say nothing; under a higher limit they were kept. A reservation may be given back:
  -- until its time all that counts now stays.
  local gone = at > now and firstAfter(state.key, state.length, now - rate.micros)
    or state.first + max(0, live + added - max(rate.cap, live))
  if gone > 0 then call('LTRIM', state.key, gone, -1) end
  local entry = at > now and format('%d|%d', at, now) or format('%d', at)
  push(state.key, entry, added)
  keep(rate, state, at)
  state.length, state.first, state.last = state.length - gone + added, max(0, state.first - gone), at
  return entry
end

function log.give(rate, state, from, n)
  local gone = min(n, state.length - state.first)
  if gone > 0 then call('LTRIM', state.key, 0, -1 - gone) end
  state.length = state.length - gone
end

function log.drain(rate, state, from)
  local left = log.left(rate, state)
  if left > 0 then log.charge(rate, state, from, left) end
end

function log.free(rate, state)
  if state.length == state.first then return 0 end
  return (state.last or entryAt(state.key, -1)) + rate.micros
end

function log.save() return '' end
return log
end
`
