import { script } from "./script.js"

// An entry is a hash: the text `e`, and the server's microseconds `s` since and `u` until which it counts.

/** Microseconds for which it is kept, the entry. @internal */
export const put = script(
  "stale.put",
  `local ttl = tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'e', ARGV[2], 's', now, 'u', now + ttl)
redis.call('PEXPIRE', KEYS[1], math.ceil(ttl / 1000))
return 1`
)

/** @internal */
export const drop = script("stale.drop", "return redis.call('DEL', KEYS[1])")

/** The entry and its age in microseconds, or nothing. @internal */
export const get = script(
  "stale.get",
  `local entry = redis.call('HMGET', KEYS[1], 'e', 's', 'u')
if not entry[1] or tonumber(entry[3]) <= now then return {} end
return {entry[1], math.max(0, now - tonumber(entry[2]))}`
)
