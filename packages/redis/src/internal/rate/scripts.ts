import { script } from "../script.js"
import { states } from "./states.js"

const owe = (debt: string) => `
local micros, text = ${debt}, nil
if parts == 1 then
  text = format('%s%d', id, now + micros)
else
  micros = floor(${debt} / parts)
  text = format('%s%d.%d', id, now + micros, ${debt} - micros * parts)
end
call('SET', name, text, 'PX', ceil(micros / 1000) + 2)`

// A string of the short form, which is nearly always there.
const owed = `
if sub(value, 1, #id) == id then
  debt = sub(value, #id + 1, #id + 16) - now
  if parts > 1 then debt = debt * parts + sub(value, #id + 18) end
  if debt < 0 then debt = 0
  elseif debt > tolerance then
    -- Nothing but a clock that went back leaves more than that.
    debt = tolerance
    ${owe("debt")}
  end
else
  plain = false
end`

/**
 * Decides for many entries in their order, as if they came one after another: each of one target, with keys of its own.
 * The answer is a list of one answer for each, or that answer alone where there is one entry of the simplest form.
 * Entries that are decided alike follow each other under one head:
 *
 * - `t`, `n`, `p` and `r` for one rate by `gcra`: the name of the rate, parts, tolerance, price of what is asked, how
 *   many entries, [the longest wait, for `r`]. The answer to each is what the key owes in parts, before: all else follows
 *   from that. Only to a reservation for a time to come it is a list: that, and the string of the key before and after.
 * - `s`: kind, mode, longest wait, what is asked, how many entries, the rates. The answer to each is a list: how often it
 *   was granted, the wait, of each rate what is left and until when it is used, and the string of the key before and after
 *   a reservation.
 *
 * Modes: `t` takes, `n` as often as there is room, at most so many times (the argument of each entry), `p` asks as `t` and
 * takes nothing, `r` takes for a time to come.
 *
 * @internal
 */
export const decideScript = script(
  "rate",
  `
local call, sub, format, floor, ceil = redis.call, string.sub, string.format, math.floor, math.ceil
if ARGV[1] == 't' and #ARGV == 6 and #KEYS == 1 then
  local name, id, parts, tolerance = KEYS[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  local value, debt, plain = call('GET', name), 0, true
  if value then
    ${owed}
  end
  if plain then
    local after = debt + ARGV[5]
    if after <= tolerance then
      ${owe("after")}
    end
    return debt
  end
end
local unpack = unpack
local values = call('MGET', unpack(KEYS))
local fresh, out, key, at, last = {}, {}, 0, 1, #ARGV
local function define()
${states}
  -- As often as there is room, or for a time to come; then all is charged, or nothing is.
  local function settle(kind, rates, opened, value, mode, longest, n, times)
    local granted, moment = times, now
    if mode == 'r' or mode == 'p' then
      for i, rate in ipairs(rates) do moment = max(moment, kind.ready(rate, opened[i], opened.from, n)) end
      if moment > now + longest then granted = 0 end
    elseif opened.from > now then
      granted = 0
    else
      for i, rate in ipairs(rates) do granted = min(granted, floor(kind.left(rate, opened[i], now) / n)) end
    end
    if granted == 0 or mode == 'p' then return granted, moment end
    for i, rate in ipairs(rates) do opened.entry = kind.charge(rate, opened[i], moment, n * granted) end
    local pending = opened.pending
    if moment > now then
      if not pending then
        opened.pending = { last = moment, count = 1, base = value or '' }
      else
        pending.last = max(pending.last, moment)
        pending.count = pending.count and pending.count + 1
      end
    elseif pending then
      pending.count, pending.base = nil, nil
    end
    return granted, moment, true
  end
  local function decide(name, rates, keys, value, mode, longest, n, times)
    local kind = kinds[name]
    local opened = kind.open(rates, value, keys)
    local debt = opened[1].debt
    local granted, moment, charged = settle(kind, rates, opened, value, mode, longest, n, times)
    local after
    -- A clock that went back: it is remembered, or the key would be denied until it is where it was.
    if charged or opened.back then
      after = kind.save(keys[1], rates, opened)
      fresh[keys[1]] = after
    end
    local reserved = charged and moment > now
    if debt and #rates == 1 then return reserved and { debt, value or '', after } or debt end
    if granted < times then
      for i, rate in ipairs(rates) do
        moment = max(moment, kind.ready(rate, opened[i], max(now, opened.from), n))
      end
    end
    local answer = { granted, moment - now }
    for i, rate in ipairs(rates) do
      insert(answer, moment > now and reserved and 0 or opened.from > now and 0 or kind.left(rate, opened[i], now))
      insert(answer, max(0, kind.free(rate, opened[i]) - now))
    end
    if reserved then
      insert(answer, value or '')
      insert(answer, opened.entry or after)
    end
    return answer
  end
  return decide, readRates
end
local decide, readRates
while at <= last do
  local mode = ARGV[at]
  if mode == 's' then
    if not decide then decide, readRates = define() end
    local name, longest, n, run = ARGV[at + 1], tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    mode = ARGV[at + 2]
    local rates
    rates, at = readRates(at + 6)
    for _ = 1, run do
      local keys, times = {}, 1
      for i = 1, name == 'l' and #rates + 1 or 1 do keys[i] = KEYS[key + i] end
      if mode == 'n' then
        times = tonumber(ARGV[at])
        at = at + 1
      end
      local value = fresh[keys[1]] or values[key + 1]
      key = key + #keys
      out[#out + 1] = decide(name, rates, keys, value, mode, longest, n, times)
    end
  else
    local id, parts, tolerance, price = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local longest, run = 0, tonumber(ARGV[at + 5])
    at = at + 6
    if mode == 'r' then
      longest = tonumber(ARGV[at])
      at = at + 1
    end
    for _ = 1, run do
      key = key + 1
      local name = KEYS[key]
      local value = fresh[name] or values[key]
      local debt, times, plain = 0, 1, true
      if mode == 'n' then
        times = tonumber(ARGV[at])
        at = at + 1
      end
      if value and value ~= '' then
        ${owed}
      end
      local after = debt + price
      if plain and (mode ~= 'r' or after <= tolerance) then
        if times > 1 then after = debt + price * math.min(times, floor((tolerance - debt) / price)) end
        if after <= tolerance and after > debt and mode ~= 'p' then
          ${owe("after")}
          fresh[name] = text
        end
        out[#out + 1] = debt
      else
        if not decide then decide, readRates = define() end
        local window, cost, _, burst = string.match(id, '(%d+)/(%d+)/(%d+)/(%d+)')
        local rate = { name = window, price = tonumber(cost), parts = parts, burst = burst, tolerance = tolerance }
        out[#out + 1] = decide('g', { rate }, { name }, value, mode, longest, price / rate.price, times)
      end
    end
  end
end
return out
`
)

/**
 * Changes what a key has used: kind, what is to be done, how much, [the wait, the string before and after], the rates.
 * The last key is the mark of a drain.
 *
 * - `+`: charges so much, whether or not it is there. `-`: gives so much back. `d`: takes all that is left of the rate
 *   with the shortest window, once per such window. `x`: forgets the key; of a log with so many windows, whose names
 *   follow. If it has others it answers with the names of all, and nothing is done.
 * - `c`: gives a reservation back, unless its time has come. Where nobody came after it, or all were given back, the key
 *   is as it was. Or else as much is given back as those that came after it do not need. Answers 1, or 0 where its time
 *   has come.
 *
 * @internal
 */
export const changeScript = script(
  "rate-change",
  `
local call, sub, format, unpack = redis.call, string.sub, string.format, unpack
${states}
local what, n = ARGV[2], tonumber(ARGV[3])
local kind, keys, mark = kinds[ARGV[1]], KEYS, KEYS[#KEYS]
if what == 'x' then
  if ARGV[1] == 'l' then
    local named = {}
    for i = 4, 3 + n do named[ARGV[i]] = true end
    local names = call('SMEMBERS', keys[n + 1])
    for _, name in ipairs(names) do
      if not named[name] then return names end
    end
  end
  call('DEL', unpack(keys))
  return 1
end
local at = 4
local time, before, after
if what == 'c' then
  before, after = ARGV[5], ARGV[6]
  time = match(after, '|(%d+)') + ARGV[4]
  at = 7
  if now > time then return 0 end
end
local rates = readRates(at)
if what == 'c' and ARGV[1] == 'l' then
  local found = 0
  for i = 1, #rates do found = found + call('LREM', keys[i], -n, after) end
  return found > 0 and 1 or 0
end
local value = ARGV[1] ~= 'l' and call('GET', keys[1])
if what == 'c' then
  if not value then return 0 end
  if value == after then
    if before == '' then call('DEL', keys[1]) else call('SET', keys[1], before, 'KEEPTTL') end
    return 1
  end
end
local least = 1
for i, rate in ipairs(rates) do
  if rate.micros < rates[least].micros then least = i end
end
if what == 'd' then
  local until_ = tonumber(call('GET', mark) or 0)
  if now < until_ and until_ <= now + rates[least].micros then return 1 end
  call('SET', mark, format('%d', now + rates[least].micros), 'PX', ceil(rates[least].micros / 1000) + 1)
end
local opened = kind.open(rates, value, keys)
local pending = opened.pending
if pending then
  if what ~= 'c' then
    pending.count, pending.base = nil, nil
  elseif pending.count == 1 then
    -- The last of all that wait.
    if pending.base == '' then call('DEL', keys[1]) else call('SET', keys[1], pending.base, 'KEEPTTL') end
    return 1
  else
    pending.count = pending.count and pending.count - 1
  end
end
for i, rate in ipairs(rates) do
  local state = opened[i]
  if what == '+' then kind.charge(rate, state, opened.from, n)
  elseif what == 'd' then
    if i == least then kind.drain(rate, state, opened.from) end
  elseif what == 'c' and ARGV[1] ~= 'g' then
    kind.back(rate, state, time, n)
  else kind.give(rate, state, opened.from, n) end
end
-- Other rates of a window count the same calls.
if what == '-' then
  for _, other in ipairs(opened.others) do
    for i, rate in ipairs(rates) do
      if other.name == rate.name then
        kind.give(other, other, opened.from, n)
        break
      end
    end
  end
end
kind.save(keys[1], rates, opened)
return 1
`
)
