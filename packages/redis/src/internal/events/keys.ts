import type { RedisConnection } from "../../RedisConnection.js"

/** The keys of a stream: all in one slot. @internal */
export const streamKeys = (redis: RedisConnection.Service, stream: string) => {
  const base = `${redis.prefix}e:{${stream}}`
  return {
    entries: base,
    /** How many entries there ever were. */
    count: `${base}:n`,
    /** What groups could not deal with. */
    dead: `${base}:dead`,
    /** The last that a publisher sent, so that what it sends again is not there twice. */
    sent: (publisher: string) => `${base}:s:${publisher}`
  }
}
