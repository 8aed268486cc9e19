import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { answerOf, argsOf, type Ask, keysOf, settle } from "../../src/internal/bulkhead/settle.js"
import { Skew } from "../../src/internal/skew.js"
import { connect } from "./bulkheads.js"

/** So long that the time which the test itself takes does not count; and time passes by hundreds of seconds. */
export const lease = 1050_000_000
export const patience = 750_000_000

/** A connection to a server whose clock is ahead by what a test says. */
export const skewed = Effect.suspend(() => {
  const clock = { us: 0 }
  return Effect.map(
    Effect.provideService(connect(String(inject("redisUrl"))), Skew, () => clock.us),
    (redis) => ({ clock, redis })
  )
})

/** The step of a bulkhead of so many permits, by a clock that a test sets. */
export const step = (most: number, always: Partial<Ask> = {}) =>
  Effect.gen(function*() {
    const { clock, redis } = yield* skewed
    const { channel, keys } = keysOf(redis.prefix, randomUUID())
    const common = { need: 1, lease, patience, most, resize: 0, span: 0, strict: false, unheard: false, channel }
    const asks = (ask: Pick<Ask, "id" | "seq" | "keep" | "want"> & Partial<Ask>) =>
      Effect.map(redis.run(settle, keys, argsOf({ ...common, ...always, ...ask })), answerOf)
    const [ends, holders] = keys as [string, string]
    /** What is kept of a process, which may be of an older form. */
    const writes = (id: string, text: string) => redis.command("hset", holders, id, text)
    return { asks, clock, forgetEnds: redis.command("del", ends), keptFor: redis.command("pttl", ends), writes }
  })
