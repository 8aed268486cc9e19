import { gcra } from "./gcra.lua.js"
import { log } from "./log.lua.js"
import { windows } from "./windows.lua.js"

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
${gcra}
${windows}
${log}
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
