import { script } from "./script.js"

/*
 * An entry is a hash: the token `t` and the fingerprint `f` of its owner, the server's microseconds `u` until which it
 * counts, and the response `r` once it is done. The key itself lives as long. What writes is first what may find no memory,
 * so that an entry is as it was where there is none.
 */

/** Token, fingerprint, microseconds of the lease. @internal */
export const begin = script(
  "idempotency.begin",
  `local token, fingerprint, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local entry = redis.call('HMGET', KEYS[1], 't', 'f', 'u', 'r')
if entry[1] and tonumber(entry[3]) > now then
  if entry[4] then return {'Done', entry[2], entry[4]} end
  if entry[1] ~= token then return {'InFlight', entry[2], tonumber(entry[3]) - now} end
end
redis.call('HSET', KEYS[1], 't', token, 'f', fingerprint, 'u', now + lease)
redis.call('HDEL', KEYS[1], 'r')
redis.call('PEXPIRE', KEYS[1], math.ceil(lease / 1000))
return {'New'}`
)

/** Token, fingerprint, microseconds for which the response is kept, the response. @internal */
export const complete = script(
  "idempotency.complete",
  `local token, fingerprint, ttl, response = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local entry = redis.call('HMGET', KEYS[1], 't', 'u')
if entry[1] and entry[1] ~= token and tonumber(entry[2]) > now then return 0 end
redis.call('HSET', KEYS[1], 't', token, 'f', fingerprint, 'u', now + ttl, 'r', response)
redis.call('PEXPIRE', KEYS[1], math.ceil(ttl / 1000))
return 1`
)

/** Token. @internal */
export const release = script(
  "idempotency.release",
  `local entry = redis.call('HMGET', KEYS[1], 't', 'u', 'r')
if entry[1] ~= ARGV[1] or entry[3] then return 0 end
redis.call('DEL', KEYS[1])
return tonumber(entry[2]) > now and 1 or 0`
)
