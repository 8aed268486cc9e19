/** Both kinds of windows of the clock, as a part of `states`. @internal */
export const windows = `
-- Two counters per window of the clock; a fixed window has one of them.
function makers.w()
local windows = {}

local function roll(rate, state, time)
  local index = floor(time / rate.micros)
  if index > state.index then
    state.previous = index == state.index + 1 and state.current or 0
    state.current = 0
    state.index = index
  end
end

function windows.open(rates, value)
  local body, written, pending = parse(value)
  local back = written and now < written
  local opened = { others = {}, from = pending and pending.last or now, pending = pending, back = back }
  local records = {}
  for name, micros, index, current, previous in gmatch(body, '(%d+)/(%d+):(%d+)/(%d+)/(%d+)') do
    local state = {
      name = name,
      micros = tonumber(micros),
      index = tonumber(index),
      current = tonumber(current),
      previous = tonumber(previous)
    }
    if back then state.index = min(state.index, floor(now / state.micros)) end
    records[name] = state
  end
  for i, rate in ipairs(rates) do
    local state = records[rate.name] or { index = 0, current = 0, previous = 0 }
    -- Two rates of one window count the same calls, each for itself.
    opened[i] = { index = state.index, current = state.current, previous = state.previous }
    roll(rate, opened[i], opened.from)
  end
  for _, rate in ipairs(rates) do records[rate.name] = nil end
  for _, state in pairs(records) do
    if windows.free(state, state) > now then insert(opened.others, state) end
  end
  return opened
end

function windows.charge(rate, state, at, n)
  roll(rate, state, at)
  state.current = min(most, state.current + n)
end

function windows.give(rate, state, from, n)
  local own = min(state.current, n)
  state.current = state.current - own
  state.previous = max(0, state.previous - (n - own))
end

-- What was taken at a time that is given back, as far as it still counts.
function windows.back(rate, state, time, n)
  local index = floor(time / rate.micros)
  if index == state.index then state.current = max(0, state.current - n)
  elseif index + 1 == state.index then state.previous = max(0, state.previous - n) end
end

function windows.free(rate, state)
  if state.current > 0 then return (state.index + 2) * rate.micros end
  return state.previous > 0 and (state.index + 1) * rate.micros or 0
end

function windows.save(key, rates, opened)
  local records, free, known = {}, now, {}
  local function add(rate, state)
    if known[rate.name] or state.current + state.previous == 0 then return end
    known[rate.name] = true
    -- A fixed window is kept as long as a sliding one: nobody can tell.
    free = max(free, windows.free(rate, state))
    insert(records, format('%s/%d:%d/%d/%d', rate.name, rate.micros, state.index, state.current, state.previous))
  end
  for i, rate in ipairs(rates) do add(rate, opened[i]) end
  table.sort(opened.others, function(a, b) return windows.free(a, a) > windows.free(b, b) end)
  for i = 1, min(16, #opened.others) do add(opened.others[i], opened.others[i]) end
  if #records == 0 then
    call('DEL', key)
    return ''
  end
  return put(key, long(opened.pending, records), free)
end

local sliding = setmetatable({}, { __index = windows })

-- How far into its window so many of the one before must have slid for so many more.
local function slide(rate, used, room)
  if room >= used then return 0 end
  return rate.micros - (muldiv(room, rate.micros, used))
end

local function overlap(rate, state, time)
  return muldivUp(state.previous, (state.index + 1) * rate.micros - time, rate.micros)
end

function sliding.left(rate, state, from)
  return max(0, rate.cap - state.current - overlap(rate, state, from))
end

function sliding.ready(rate, state, from, n)
  local room = rate.cap - n - state.current
  if room < 0 then return (state.index + 1) * rate.micros + slide(rate, state.current, rate.cap - n) end
  if overlap(rate, state, from) <= room then return from end
  return max(from, state.index * rate.micros + slide(rate, state.previous, room))
end

function sliding.drain(rate, state, from)
  state.current = state.current + sliding.left(rate, state, from)
end

local fixed = setmetatable({}, { __index = windows })

function fixed.left(rate, state)
  return max(0, rate.cap - state.current)
end

function fixed.ready(rate, state, from, n)
  return state.current + n <= rate.cap and from or (state.index + 1) * rate.micros
end

function fixed.drain(rate, state)
  state.current = max(state.current, rate.cap)
end

function fixed.give(rate, state, from, n)
  state.current = max(0, state.current - n)
end

function fixed.free(rate, state)
  return state.current > 0 and (state.index + 1) * rate.micros or 0
end
return sliding, fixed
end

function makers.f()
  local _, fixed = makers.w()
  return fixed
end
`
