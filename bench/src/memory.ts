/** What a key costs in memory: each case in a process of its own, which fills itself with keys that are all live. */
import { RateLimiter } from "@effect-resilience/core"
import { Effect, Scope } from "effect"
import { RateLimiterMemory } from "rate-limiter-flexible"

/** Calls once with each key, and tells how many of them are held in the end. */
type Fill = (keys: ReadonlyArray<string>) => Promise<number>

/** What keeps the filled limiter alive until it has been weighed. */
const held: Array<unknown> = []

const cases: Readonly<Record<string, Fill>> = {
  "keys: ours": async (keys) => {
    const scope = Effect.runSync(Scope.make())
    const limiter = await Effect.runPromise(
      Scope.extend(RateLimiter.make({ name: "m", rate: "100/day", maxKeys: keys.length }), scope)
    )
    held.push(limiter)
    await Effect.runPromise(Effect.forEach(keys, (key) => limiter.consume({ key }), { discard: true }))
    // The bound holds: one more key finds no room, and takes none.
    const more = await Effect.runPromise(limiter.consume({ key: "one more" }))
    const { keys: count = -1 } = await Effect.runPromise(limiter.metrics)
    return more.allowed ? -1 : count
  },
  "keys: rate-limiter-flexible": async (keys) => {
    const limiter = new RateLimiterMemory({ points: 100, duration: 86_400 })
    held.push(limiter)
    for (const key of keys) await limiter.consume(key)
    let count = 0
    for (const key of keys) if ((await limiter.get(key))?.consumedPoints === 1) count++
    return count
  }
}

/** The most that ours may be of the other. */
export const memoryComparison = {
  name: "keys: ours / keys: rate-limiter-flexible",
  ours: "keys: ours",
  peer: "keys: rate-limiter-flexible",
  target: 0.5
}

const weigh = () => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

/** Bytes per key, the key itself not counted: it is there before. */
export const weighCase = async (name: string, count: number): Promise<number> => {
  const fill = cases[name]
  if (fill === undefined) throw new Error(`there is no case ${name}`)
  await fill(["warm"])
  held.length = 0
  const keys = Array.from({ length: count }, (_, i) => `user ${i}`)
  // A key that is looked up becomes a flat string with a hash, on either side.
  const known = new Set(keys)
  const before = weigh()
  const found = await fill(keys)
  const bytes = (weigh() - before) / known.size
  if (found !== count) throw new Error(`${name}: ${count} keys were to be held, ${found} are`)
  return bytes
}
