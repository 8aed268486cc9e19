import { script } from "../script.js"

/*
 * The circuit of a fleet on the server: four scripts over the six keys of one circuit.
 *
 * 1 the state, a hash: st, ep (epoch), ou (until when it is open, or what an operator wants), ln (how long that is, or the
 *   longest lease of a probe), k (opens in a row), op (1: an operator's; 2: closed at the end of what one wanted), ok and no
 *   (probes that succeeded and failed), cl (closed since)
 * 2 the votes, a hash of counts in buckets of time
 * 3 who made calls, 4 whose own window is bad, 5 who opened by itself, each by the time of the last report
 * 6 the probes that are out, by the end of their lease
 *
 * An epoch grows with each change. Reports and results bring the one they were made under, and one that is over changes
 * nothing. It is the time of the server where that is more, so that a server that lost everything begins with a later one.
 *
 * A server whose memory is full refuses the first write of a script where that takes memory, and none that comes after
 * another. A change of state deletes first, and so is made there too; votes of calls, which would be new, are refused.
 *
 * Where the clock of the server was set back, or a slower one took over, nothing lasts longer than it was to: an end that
 * is further away than the whole of its time is moved, votes of the future are none, and nothing was closed in the future.
 */

/** The states, as the hash has them. @internal */
export const states = ["Closed", "Open", "HalfOpen", "ForcedOpen", "Disabled", "MetricsOnly"] as const

/** How long a circuit that nobody speaks of is remembered, in milliseconds. @internal */
export const remembered = 3_600_000

/** An end that never comes, in microseconds: an exact number for the server. @internal */
export const never = 9e15

// The arguments that all have: the channel, the name of the circuit, and whether circuits only tell of it ('1').
const begin = `
local channel, name, advisory = ARGV[1], ARGV[2], ARGV[3] == '1'
local h = redis.call('HMGET', KEYS[1], 'st', 'ep', 'ou', 'k', 'op', 'ok', 'no', 'cl', 'ln')
for i = 1, 9 do h[i] = tonumber(h[i] or 0) end
local st, ep, ou, k, op, ok, no, cl, ln = unpack(h)

local function left()
  if st ~= 1 and st < 3 then return 0 end
  if ou >= ${never} then return -1 end
  return math.max(ou - now, 0)
end

local function keep(key, span)
  redis.call('PEXPIRE', key, math.ceil(math.max(span, 0) / 1000) + ${remembered})
end

local function save()
  redis.call('HSET', KEYS[1], 'st', st, 'ep', ep, 'ou', ou, 'k', k, 'op', op, 'ok', ok, 'no', no, 'cl', cl,
    'ln', ln)
  keep(KEYS[1], left())
end

local function go(to, length, opens, operator)
  st, ep, k, op, ok, no = to, math.max(ep + 1, now), opens, operator, 0, 0
  ou = length < 0 and ${never} or math.min(now + length, ${never})
  ln = math.max(length, 0)
  if to == 0 then cl = now end
  redis.call('DEL', unpack(KEYS, 2))
  save()
  -- Who waits for its time to be over asks then: that it is half-open is no news.
  if to ~= 2 then
    redis.call('PUBLISH', channel, string.format('%.0f %.0f %.0f %.0f %.0f ', st, ep, left(), k, op) .. name)
  end
end

local function reply(granted, full)
  return {st, ep, st == 2 and full or left(), k, op, granted, now}
end

local isLonger = (st == 1 or st >= 3) and ou < ${never} and ou - now > ln
if isLonger or cl > now then
  -- First what needs no memory: a server that has none left lets the rest pass then.
  keep(KEYS[1], ln)
  if isLonger then ou = now + ln end
  cl = math.min(cl, now)
  save()
end
if (st >= 3 or (st == 1 and advisory)) and now >= ou then go(0, 0, k, op * 2) end
`

/**
 * What a process saw since it last said so, and how its circuit is now. Without news it only asks.
 *
 * Source: the sliding window of resilience4j over the calls of all processes; the quorum after bagowix/interlock.
 *
 * @internal
 */
export const report = script(
  "circuit report",
  `${begin}
local instance, heard = ARGV[4], tonumber(ARGV[5])
local calls, failures, slow = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local failing, tripped = ARGV[9] == '1', ARGV[10] == '1'
local bucket, window, minimum = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local failureRate, slowRate, quorum = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local length, quiet = tonumber(ARGV[17]), tonumber(ARGV[18])

if st == 0 and heard == ep and (calls > 0 or tripped) then
  local index = math.floor(now / bucket)
  redis.call('HINCRBY', KEYS[2], 'c' .. string.format('%.0f', index), calls)
  redis.call('HINCRBY', KEYS[2], 'f' .. string.format('%.0f', index), failures)
  redis.call('HINCRBY', KEYS[2], 's' .. string.format('%.0f', index), slow)
  redis.call('ZADD', KEYS[3], now, instance)
  if failing or tripped then redis.call('ZADD', KEYS[4], now, instance) else redis.call('ZREM', KEYS[4], instance) end
  if tripped then redis.call('ZADD', KEYS[5], now, instance) end
  for i = 2, 5 do redis.call('PEXPIRE', KEYS[i], math.ceil((window + bucket) / 1000)) end
  for i = 3, 5 do
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - window)
    redis.call('ZREMRANGEBYSCORE', KEYS[i], string.format('(%.0f', now), '+inf')
  end
  local sums = {c = 0, f = 0, s = 0}
  local oldest = math.floor((now - window) / bucket)
  local all = redis.call('HGETALL', KEYS[2])
  for i = 1, #all, 2 do
    local kind, at = all[i]:sub(1, 1), tonumber(all[i]:sub(2))
    if at <= oldest or at > index then redis.call('HDEL', KEYS[2], all[i])
    else sums[kind] = sums[kind] + tonumber(all[i + 1]) end
  end
  local active, bad, opened = redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5])
  local pooled = sums.c >= minimum and (sums.f / sums.c >= failureRate or sums.s / sums.c >= slowRate)
  local alone = opened >= quorum and opened / active >= failureRate
  if bad >= quorum and (pooled or alone) then
    go(1, length, (k > 0 and now - cl >= quiet) and 1 or k + 1, 0)
  end
end
if ep > 0 then keep(KEYS[1], left()) end
return reply(0, 0)
`
)

/**
 * May this probe run? The first that asks after the time of an open circuit makes it half-open. A lease ends by itself, so
 * a process that dies takes no probe with it.
 *
 * @internal
 */
export const probe = script(
  "circuit probe",
  `${begin}
local id, most, lease = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if st == 1 and now >= ou then go(2, 0, k, 0) end
local granted, full = 0, 0
if st == 2 then
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now)
  if lease > ln then
    ln = lease
    save()
  end
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[6], string.format('(%.0f', now + ln), '+inf')) do
    redis.call('ZADD', KEYS[6], now + ln, other)
  end
  local out = redis.call('ZCARD', KEYS[6])
  -- With none out one may always go: where processes differ in their options, none waits for what never comes.
  if out == 0 or out + ok + no < most then
    redis.call('ZADD', KEYS[6], now + lease, id)
    keep(KEYS[6], lease)
    granted = 1
  else
    full = math.max(tonumber(redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')[2]) - now, 1)
  end
  keep(KEYS[1], lease)
end
return reply(granted, full)
`
)

/**
 * How a probe ended: 'success', 'failure', or 'ignored', which only gives the lease back; with 'open' the dependency named
 * the time to come back. A lease that is over, or of an epoch that is, changes nothing.
 *
 * @internal
 */
export const result = script(
  "circuit result",
  `${begin}
local id, heard, outcome = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local most, need, length = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local held = tonumber(redis.call('ZSCORE', KEYS[6], id) or 0)
if st == 2 and heard == ep and held > now then
  redis.call('ZREM', KEYS[6], id)
  if outcome == 'success' then ok = ok + 1 elseif outcome == 'failure' then no = no + 1 end
  if outcome == 'open' or no > most - need then go(1, length, k + 1, 0)
  elseif ok >= need then go(0, 0, k, 0)
  else save() end
end
return reply(0, 0)
`
)

/**
 * What an operator wants. It changes nothing where another operator did something that this process has not heard of.
 *
 * @internal
 */
export const command = script(
  "circuit command",
  `${begin}
local heard, to, length = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local done = 0
if op ~= 1 or heard == ep then
  go(to, length, 0, 1)
  done = 1
end
return reply(done, 0)
`
)
