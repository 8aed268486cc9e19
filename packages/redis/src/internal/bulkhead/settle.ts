import { script } from "../script.js"

/** Where a bulkhead keeps its leases, all of one slot, and where it says that somebody waits. @internal */
export const keysOf = (prefix: string, name: string) => {
  // A brace of its own would end the hash tag, or leave it empty.
  const base = `${prefix}bh:{${name.replace(/[{}%]/g, encodeURIComponent)}}`
  return { keys: [`${base}:ends`, `${base}:holders`, `${base}:line`], channel: `${base}:line` }
}

/** The arguments after the keys, in their order. @internal */
export const argsOf = (ask: Ask): ReadonlyArray<string | number> => [
  ask.id,
  ask.seq,
  ask.keep,
  ask.want,
  ask.need,
  ask.lease,
  ask.patience,
  ask.most,
  ask.resize,
  ask.span,
  ask.strict ? 1 : 0,
  ask.unheard ? 1 : 0,
  ask.channel
]

/** What a process asks for. It may ask for all of it again: it says what it has and wants, and not what to add. @internal */
export interface Ask {
  readonly id: string
  /** Of each that asks, one after the other: what comes after a later one does nothing. */
  readonly seq: number
  /** The permits that it goes on to hold. It uses no more until it has the answer. */
  readonly keep: number
  /** The permits that it would like to hold. */
  readonly want: number
  /** So many at once some call of it needs. */
  readonly need: number
  /** How long it holds them, in microseconds. */
  readonly lease: number
  /** How long it counts as waiting when it does not ask again, in microseconds. */
  readonly patience: number
  /** `maxConcurrent`, or what that was changed to for good. */
  readonly most: number
  /** What an operator changes that to, or 0; -1 ends what this process changed for a while. */
  readonly resize: number
  /** For how long, in microseconds; 0 is for good. */
  readonly span: number
  /** Whether nobody gets any for a lease after the server is another. */
  readonly strict: boolean
  /** Whether it has not heard what it was given last. */
  readonly unheard: boolean
  readonly channel: string
}

/** @internal */
export interface Answer {
  readonly held: number
  /** Of the permits that it got, or has again; 0 where it got none. */
  readonly fence: number
  /** What it said to keep belongs to others by now. */
  readonly lost: boolean
  /** `maxConcurrent`, as it is now. */
  readonly most: number
  /** The same without what is changed for a while. */
  readonly lasting: number
  /** Milliseconds until that is over; undefined where nothing is changed for a while. */
  readonly left: number | undefined
  /** What it may hold while another waits that is before it; undefined where none does. */
  readonly spare: number | undefined
  /** Milliseconds until the first lease of another ends, or that of all who are not known. */
  readonly soon: number | undefined
  /** It waits for more. */
  readonly waits: boolean
}

/** `undefined`: the server has seen a later one. @internal */
export const answerOf = (reply: unknown): Answer | undefined => {
  const [known, held = 0, fence = 0, lost, most = 0, spare = -1, soon = -1, waits, lasting = 0, left = -1] =
    (reply as ReadonlyArray<number>).map(Number)
  if (known !== 1) return undefined
  return {
    held,
    fence,
    lost: lost === 1,
    most,
    lasting,
    left: left < 0 ? undefined : left,
    spare: spare < 0 ? undefined : spare,
    soon: soon < 0 ? undefined : soon,
    waits: waits === 1
  }
}

/**
 * The one step of a shared bulkhead: a process says what it keeps and what it wants, and hears what it has.
 *
 * - Keys: when the lease of each process ends (by the server's time); what each holds; those who wait, by ticket.
 * - Processes whose lease is over hold nothing any more, whoever asks next finds it out.
 * - Where the server has lost the ends and not the holders, each has a lease from then on, as long as its own was.
 * - Who has less than its share, a whole part of all permits for each process, or less than one of its calls needs, waits
 *   before those who have it. Otherwise the longest wait is first. What is free is kept for the first: so a call that needs
 *   many permits gets them in the end, and two that hold half each do not wait for one another.
 * - What a process says to keep and the server does not know of, because it is another that heard less, is its own again
 *   where it is still free. Otherwise it is lost.
 * - Each gain, what is its own again, and what it may be without having heard of it, has a fence, larger than all before:
 *   the server's microseconds, or one more than the last.
 * - An operator's limit for a while stands beside that which lasts, with its end and with who made it, who alone can end it
 *   before that. The last one counts. All are told of an order, for some hold nothing and would not ask.
 * - Where the clock of the server was set back, neither that nor the time in which nobody is given any lasts longer than it
 *   was to. A lease does, by the step: to look at each of them would cost with every question.
 *
 * The cost is that of the sets, logarithmic in the number of processes, and one step for each that has gone, or whose end
 * was lost.
 *
 * @internal
 */
export const settle = script(
  "bulkhead",
  `local ends, holders, line = KEYS[1], KEYS[2], KEYS[3]
local id, channel, strict, unheard = ARGV[1], ARGV[13], ARGV[11] == '1', ARGV[12] == '1'
local seq, keep, want, need = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local lease, patience, most = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local resize, span = tonumber(ARGV[9]), tonumber(ARGV[10])
-- Added to the tickets of those who have their share: beyond any time, and still exact.
local behind = 4503599627370496

local function field(name) return tonumber(redis.call('HGET', holders, name) or '0') end
local function holder(who)
  local text = redis.call('HGET', holders, who) or '0 0 0 0 0'
  -- Once without the last number, the length of its lease.
  local permits, last, needs, asked, span = string.match(text, '(%d+) (%d+) (%d+) (%d+) ?(%d*)')
  return tonumber(permits), tonumber(last), tonumber(needs), tonumber(asked), tonumber(span) or lease
end

local _, last = holder(id)
if seq <= last then return {0} end

local used = field('#used')
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
  used = used - (holder(gone))
  redis.call('HDEL', holders, gone)
  redis.call('ZREM', ends, gone)
  redis.call('ZREM', line, gone)
end

-- A server whose memory is full refuses the first write of a script where that takes memory, and none after another: so
-- this comes before all that does.
local ticket = tonumber(redis.call('ZSCORE', line, id) or '0') % behind
-- One from before the clock was set back would stand behind all who come from now on.
if ticket == 0 or ticket > now then ticket = now end
redis.call('ZREM', line, id)
local first = redis.call('ZRANGE', line, 0, 0)[1]
while first do
  local _, _, _, asked = holder(first)
  -- Who asked in the future did so before the clock was set back: it asks again, if it lives.
  if asked <= now and asked + patience >= now then break end
  redis.call('ZREM', line, first)
  first = redis.call('ZRANGE', line, 0, 0)[1]
end

-- The ends of all leases have been evicted: nobody would find out that one is over. The living renew theirs within it.
local longest = lease
if redis.call('EXISTS', ends) == 0 then
  for _, who in ipairs(redis.call('HKEYS', holders)) do
    if string.sub(who, 1, 1) ~= '#' then
      local _, _, _, _, own = holder(who)
      redis.call('ZADD', ends, now + own, who)
      longest = math.max(longest, own)
    end
  end
end

local mine = holder(id)
if resize > 0 and span > 0 then
  redis.call('HSET', holders, '#over', string.format('%d %d %d %s', resize, now + span, span, id))
elseif resize > 0 then
  redis.call('HSET', holders, '#most', resize)
  redis.call('HDEL', holders, '#over')
end
local resized = field('#most')
if resized > 0 then most = resized end
local lasting, left = most, -1
local over, till, whole, who = string.match(redis.call('HGET', holders, '#over') or '', '(%d+) (%d+) (%d+) (%S+)')
if over and (tonumber(till) <= now or (resize < 0 and who == id)) then
  redis.call('HDEL', holders, '#over')
elseif over then
  local rest = math.min(tonumber(till) - now, tonumber(whole))
  redis.call('HSET', holders, '#over', string.format('%d %d %d %s', over, now + rest, whole, who))
  most, left = tonumber(over), math.ceil(rest / 1000)
end
if resize ~= 0 then redis.call('PUBLISH', channel, '* ' .. id) end
need = math.min(need, most)
-- Until then nobody is given any.
local quiet = 0
if strict then
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  if redis.call('HGET', holders, '#run') ~= run then
    redis.call('HSET', holders, '#run', run, '#quiet', now + lease)
  end
  quiet = math.min(field('#quiet'), now + lease)
  redis.call('HSET', holders, '#quiet', quiet)
end

local others = math.max(used - mine, 0)
local lost = 0
if keep > mine and others + keep > most then
  lost = 1
  keep = mine
end
local held, fence = keep, 0
local function newFence()
  fence = math.max(field('#fence') + 1, now)
  redis.call('HSET', holders, '#fence', fence)
end
-- Others may have had them meanwhile, or before what it has not heard.
if keep > mine or (unheard and keep > 0) then newFence() end

local function share() return math.floor(most / math.max(redis.call('ZCARD', ends), 1)) end
redis.call('ZADD', ends, 'NX', now + patience, id)
local function place()
  if held >= math.max(share(), need) then return ticket + behind end
  return ticket
end
local function isFirst() return not first or place() < tonumber(redis.call('ZSCORE', line, first)) end
local free = most - others - held
if want > held and free > 0 and isFirst() and now >= quiet then
  local gain = math.min(want - held, free)
  -- Where others wait, no more than its share, or one at a time.
  if first then gain = math.min(gain, math.max(math.max(share(), need) - held, 1)) end
  held = held + gain
  free = free - gain
  newFence()
  if held >= math.max(share(), need) then ticket = now end
end

local head = first
if want > held then
  if isFirst() then head = id end
  redis.call('ZADD', line, place(), id)
end
if held > 0 or want > 0 then
  redis.call('ZADD', ends, now + (held > 0 and lease or patience), id)
  redis.call('HSET', holders, id, string.format('%d %d %d %d %d', held, seq, need, now, lease))
else
  redis.call('ZREM', ends, id)
  redis.call('HDEL', holders, id)
end
redis.call('HSET', holders, '#used', others + held)
local ttl = math.ceil((longest + patience) * 2 / 1000)
if strict or resized > 0 then ttl = math.max(ttl, 86400000) end
ttl = math.max(ttl, left)
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, math.max(ttl, redis.call('PTTL', key)))
end

-- What others may hold until the first in line has what it is due.
local spare = -1
if head then
  local permits, _, needs = holder(head)
  local processes = math.max(redis.call('ZCARD', ends), 1)
  local part = math.floor(most / processes)
  if permits >= math.max(part, needs) then spare = part + 1
  elseif needs > part and processes > 1 then spare = math.max(0, math.floor((most - needs) / (processes - 1)))
  else spare = part end
  -- What it is not given yet does not call it: it would ask again at once, for all of that time.
  redis.call('PUBLISH', channel, head .. ' ' .. spare .. ' ' .. (now < quiet and 0 or math.max(free, 0)))
  if head == id then spare = -1 end
end
-- An operator has made it smaller: each parts with what is above its share.
if others + held > most then
  spare = math.floor(most / math.max(redis.call('ZCARD', ends), 1))
  redis.call('PUBLISH', channel, '- ' .. spare .. ' 0')
end

local soon = -1
local next = redis.call('ZRANGE', ends, 0, 1, 'WITHSCORES')
local at = next[1] == id and next[4] or next[2]
at = tonumber(at or '0')
if now < quiet and (at == 0 or quiet < at) then at = quiet end
if at > 0 then soon = math.ceil((at - now) / 1000) end
return {1, held, fence, lost, most, spare, soon, want > held and 1 or 0, lasting, left}`
)
