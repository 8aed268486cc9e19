import { script } from "./script.js"

/** How often a process says that it is there, and for how long that counts, in milliseconds. @internal */
export const beatEvery = 1000
const aliveFor = 3500

/**
 * Says that a process is there, and hears the server's time, how many there are, and whether it takes what is written. A
 * full memory refuses only what a script writes first: by then it has been seen, and the process is counted all the same.
 */
const beatScript = script(
  "beat",
  `local due = time[1] * 1000 + ARGV[2]
local said = redis.pcall('ZADD', KEYS[1], due, ARGV[1])
local refusal = type(said) == 'table' and said.err or ''
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', time[1] * 1000)
if refusal ~= '' then redis.call('ZADD', KEYS[1], due, ARGV[1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
return {time[1] * 1000000 + time[2], redis.call('ZCARD', KEYS[1]), refusal}`
)

/** @internal */
export const beat = {
  script: beatScript,
  /** Where processes are counted. */
  key: (prefix: string) => `${prefix}{processes}`,
  /** A key of another node, perhaps, where nobody looks. */
  guess: (prefix: string, n: number) => `${prefix}{processes:${n}}`,
  aliveFor
}
