import { script } from "./script.js"

/** How often a process says that it is there, and for how long that counts, in milliseconds. @internal */
export const beatEvery = 1000
const aliveFor = 3500

/** Says that a process is there, and hears the server's time and how many there are. */
const beatScript = script(
  "beat",
  `redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000)
redis.call('ZADD', KEYS[1], time[1] * 1000 + ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return {time[1] * 1000000 + time[2], redis.call('ZCARD', KEYS[1])}`
)

/** @internal */
export const beat = { script: beatScript, key: (prefix: string) => `${prefix}{processes}`, aliveFor }
