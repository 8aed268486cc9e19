/**
 * What the scripts know of the algorithms, in Lua: the meaning is that of the algorithms of core, in whole microseconds.
 *
 * A rate is `{name, micros, price, parts, cap, tolerance}`, a state belongs to one rate. Of each kind there are `open` (the
 * states of a key, and the time from which the next call may be let in: where a reservation stands, that is its time),
 * `left`, `ready`, `charge`, `give`, `free` and `save`.
 *
 * The string of a key, of all kinds but the log:
 * - `<name>/<price>/<parts>/<burst>:<microseconds>[.<parts>]` alone, of one rate by `gcra` that owes no more than its
 *   burst: nearly always.
 * - `|<written>|<last>|<count>|<record>;<record>` and, in a line of its own, what it was before: anything else. When it was written tells whether the server's clock went
 *   back since. With `+` begins what was used under rates that the last call did not have; behind `~` stands the bottom.
 *
 * @internal
 */
export const states = `
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local match, gmatch, concat, insert = string.match, string.gmatch, table.concat, table.insert

-- floor(a * b / c), and what remains, of whole numbers: exact beyond 2^53, digit by digit.
local function muldiv(a, b, c)
  local product = a * b
  if product < 9007199254740992 then
    local rest = product % c
    return (product - rest) / c, rest
  end
  local base = 2
  while base < 4096 and base * 4 * (b + c) < 9007199254740992 do base = base * 2 end
  local digits = {}
  while a > 0 do
    insert(digits, a % base)
    a = floor(a / base)
  end
  local quotient, rest = 0, 0
  for i = #digits, 1, -1 do
    local part = rest * base + digits[i] * b
    rest = part % c
    quotient = quotient * base + (part - rest) / c
  end
  return quotient, rest
end

local function muldivUp(a, b, c)
  local quotient, rest = muldiv(a, b, c)
  return rest > 0 and quotient + 1 or quotient
end

-- The parts of a string in the long form: the records, when it was written, and what is known of reservations that are
-- still to come: the time of the last, how many there are, and what the key was before the first.
local function parse(value)
  if not value then return '' end
  local written, pending, count, body = match(value, '^|(%d+)|(%d*)|(%d*)|([^\\n]*)')
  if not written then return value end
  written, pending = tonumber(written), tonumber(pending)
  if now < written or not pending or pending < now then return body, written end
  return body, written, { last = pending, count = tonumber(count), base = match(value, '\\n(.*)$') }
end

local function long(pending, records)
  local text = concat(records, ';')
  if not pending then return format('|%d|||%s', now, text) end
  return format('|%d|%d|%s|%s\\n%s', now, pending.last, pending.count or '', text, pending.base or '')
end

local function put(key, text, free)
  call('SET', key, text, 'PX', ceil((free - now) / 1000) + 1)
  return text
end

-- No debt is larger: a penalty beyond that is cut.
local most = 4503599627370496

local makers = {}

function makers.g()
local gcra = {}

-- What one rate owes, as what another one would: so many calls. Rounded against the caller.
local function converted(debt, from, to)
  local rest = debt % from.price
  return min(most, (debt - rest) / from.price * to.price + ceil(rest * to.price / from.price))
end

function gcra.records(value)
  local body, written, pending = parse(value)
  local trusted = written and now >= written
  local records, back = {}, written and now < written
  local pattern = '(%+?)(%d+)/(%d+)/(%d+)/(%d+):(%d+)%.?(%d*)~?(%d*)%.?(%d*)'
  for other, name, price, parts, burst, at, part, bottom, bottomPart in gmatch(body, pattern) do
    local record = { other = other ~= '', name = name, price = tonumber(price), parts = tonumber(parts), burst = burst }
    record.tolerance = record.price * burst
    record.debt = max(0, (at - now) * record.parts + (tonumber(part) or 0))
    if trusted then
      if pending and bottom ~= '' then record.bottom = (bottom - now) * record.parts + (tonumber(bottomPart) or 0) end
    elseif record.debt > record.tolerance then
      -- Nothing but a clock that went back leaves more than that.
      record.debt, back = record.tolerance, true
    end
    insert(records, record)
  end
  return records, pending, back
end

-- The state of each rate, after what was used under other rates with the same window; and the records of those others.
-- Where the key was charged last under the same rates, each state has it all.
function gcra.open(rates, value)
  local records, pending, back = gcra.records(value)
  local opened = { others = {}, from = now, pending = pending, back = back }
  local own = {}
  local same, charged = 0, 0
  for _, record in ipairs(records) do
    if not record.other then charged = charged + 1 end
    for i, rate in ipairs(rates) do
      if record.name == rate.name and record.price == rate.price and record.parts == rate.parts then
        own[i] = record
        record.own = true
        if not record.other and record.burst == rate.burst then same = same + 1 end
      end
    end
    if not record.own and record.debt > 0 then insert(opened.others, record) end
  end
  for i, rate in ipairs(rates) do
    local debt = own[i] and own[i].debt
    if same < #rates or same < charged then
      for _, record in ipairs(records) do
        if record.name == rate.name and record ~= own[i] then
          local share = min(record.debt, record.tolerance)
          local counted = min(converted(share, record, rate), rate.tolerance)
          if not debt then counted = counted + converted(record.debt - share, record, rate) end
          debt = max(debt or 0, counted)
        end
      end
    end
    opened[i] = { debt = debt or 0, bottom = own[i] and own[i].bottom }
  end
  return opened
end

function gcra.left(rate, state)
  return max(0, floor((rate.tolerance - state.debt) / rate.price))
end

function gcra.ready(rate, state, from, n)
  return now + max(0, ceil((state.debt + rate.price * n - rate.tolerance) / rate.parts))
end

-- The bottom is what reservations for a time to come need, each from its time on: what is given back does not go below.
function gcra.charge(rate, state, at, n)
  local cost = rate.price * n
  local time = (at - now) * rate.parts
  local due = state.debt + cost - rate.tolerance
  -- Of the rate that made it wait the time is known to a part, and not only to a microsecond.
  if due > time - rate.parts then time = max(0, min(due, time)) end
  state.debt = min(most, max(state.debt, time) + cost)
  if at > now then state.bottom = max(state.bottom or 0, time) + cost
  elseif state.bottom then state.bottom = state.bottom + cost end
end

function gcra.give(rate, state, from, n)
  state.debt = max(0, state.debt - rate.price * n, state.bottom or 0)
end

function gcra.drain(rate, state)
  state.debt = max(state.debt, rate.tolerance)
end

function gcra.free(rate, state)
  return now + ceil(state.debt / rate.parts)
end

local function moment(debt, parts)
  local micros = floor(debt / parts)
  return format('%d', now + micros) .. (parts > 1 and format('.%d', debt - micros * parts) or '')
end

local function recordOf(rate, state, mark)
  local bottom = state.bottom and state.bottom > 0 and '~' .. moment(state.bottom, rate.parts) or ''
  return format('%s%s/%d/%d/%s:', mark, rate.name, rate.price, rate.parts, rate.burst)
    .. moment(state.debt, rate.parts) .. bottom
end

function gcra.save(key, rates, opened)
  local records, free, others = {}, now, opened.others
  for i, rate in ipairs(rates) do
    free = max(free, gcra.free(rate, opened[i]))
    records[i] = recordOf(rate, opened[i], '')
  end
  -- Of too many others those that are used up longest.
  if #others > 16 then table.sort(others, function(a, b) return a.debt / a.parts > b.debt / b.parts end) end
  for i = 1, min(16, #others) do
    free = max(free, gcra.free(others[i], others[i]))
    insert(records, recordOf(others[i], others[i], '+'))
  end
  if free == now then
    call('DEL', key)
    return ''
  end
  local rate, state = rates[1], opened[1]
  local plain = #records == 1 and state.debt <= rate.tolerance and not opened.pending
  return put(key, plain and records[1] or long(opened.pending, records), free)
end
return gcra
end

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

-- A list of the times of the last calls. That of a reservation is to come: "<time>|<written>".
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

function log.open(rates, _, keys)
  local opened = { others = {}, from = now }
  for i, rate in ipairs(rates) do
    local state = { key = keys[i], length = call('LLEN', keys[i]) }
    if state.length > 0 then
      local last, written = timeOf(call('LINDEX', state.key, -1))
      if written > now then
        -- The clock went back: what is to come counts from now.
        local start = firstAfter(state.key, state.length, now)
        if start == 0 then call('DEL', state.key) else call('LTRIM', state.key, 0, start - 1) end
        push(state.key, format('%d', now), state.length - start)
        call('PEXPIRE', state.key, ceil(rate.micros / 1000) + 1)
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
  call('PEXPIRE', state.key, ceil((at + rate.micros - now) / 1000) + 1)
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

-- Made when it is needed: to make all of them takes longer than to decide.
local kinds = setmetatable({}, { __index = function(known, name)
  known[name] = (makers[name]())
  return known[name]
end })

-- The rates that begin at an argument, and the argument after them.
local function readRates(at)
  local rates = {}
  local count = tonumber(ARGV[at])
  at = at + 1
  for i = 1, count do
    local rate = { name = ARGV[at], micros = tonumber(ARGV[at + 1]), burst = ARGV[at + 4] }
    rate.price, rate.parts, rate.cap = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    rate.tolerance = rate.price * rate.cap
    rates[i] = rate
    at = at + 5
  end
  return rates, at
end
`
