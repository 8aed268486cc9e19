import { RateLimiter } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { Effect, FiberSet } from "effect"
import { randomUUID } from "node:crypto"
import { decideScript } from "../../src/internal/rate/scripts.js"
import { withBody } from "../utils/fixedClock.js"

/*
 * Calls through one `RateLimiter` of each algorithm, so many times a second, and tells when each call was let through by the
 * server's time: `{ server, prefix, limits, perSecond, seconds }` as JSON.
 */
const { limits, perSecond, prefix, seconds, server } = JSON.parse(process.argv[2] ?? "{}")
const names = Object.keys(limits)

/** The script of the store, whose answer comes with the time at which it ran. */
const timed = withBody(decideScript, (body) => `local function run()\n${body}\nend\nreturn {run(), now}`)

/** When the script ran that decided for the fibers that run now. */
let decidedAt = 0
let roundTrips = 0

const withTimes = (redis: RedisConnection.Service): RedisConnection.Service =>
  Object.assign(Object.create(redis) as RedisConnection.Service, {
    unsafeRun: (...[script, keys, args, settled]: Parameters<RedisConnection.Service["unsafeRun"]>) => {
      if (script !== decideScript) throw new Error(`${script.name} is not expected`)
      roundTrips++
      redis.unsafeRun(timed, keys, args, (error, reply) => {
        if (error !== undefined) return settled(error, reply)
        const [answer, now] = reply as readonly [RedisConnection.Reply, number]
        // A fiber that is woken runs in a microtask of its own: those of this answer after this, and before the next one's.
        queueMicrotask(() => {
          decidedAt = now
        })
        settled(error, answer)
      })
    }
  })

const admitted: Record<string, Array<number>> = {}
const failed: Record<string, number> = {}
let calls = 0

const call = ({ name, withLimit }: RateLimiter.Service) =>
  Effect.sync(() => void (admitted[name] ??= []).push(decidedAt)).pipe(
    withLimit,
    Effect.catchTags({
      RateLimitExceededError: () => Effect.void,
      RateLimiterStoreError: () =>
        Effect.sync(() => {
          failed[name] = (failed[name] ?? 0) + 1
        })
    })
  )

const program = Effect.gen(function*() {
  // The limiter waits a little longer than that.
  const redis = yield* RedisConnection.make({
    server,
    prefix,
    name: randomUUID(),
    commandTimeout: "900 millis",
    connectTimeout: "10 seconds"
  })
  const store = yield* Effect.provideService(RedisRateLimiterStore.make(), RedisConnection, withTimes(redis))
  const limiters = yield* Effect.forEach(names, (name) => RateLimiter.make({ name, store, ...limits[name] }))
  yield* Effect.sync(() => process.send?.("ready"))
  yield* Effect.async<void>((resume) => {
    process.once("message", () => resume(Effect.void))
  })
  const running = yield* FiberSet.make()
  const began = performance.now()
  let sent = 0
  while (performance.now() - began < seconds * 1000) {
    const due = Math.floor((performance.now() - began) / 1000 * perSecond)
    for (; sent < due; sent++) {
      calls += limiters.length
      for (const limiter of limiters) yield* FiberSet.run(running, call(limiter))
    }
    yield* Effect.sleep("5 millis")
  }
  yield* FiberSet.awaitEmpty(running)
})

await Effect.runPromise(Effect.scoped(program))
// Stays until it was heard: whoever started it ends it.
process.on("message", () => {})
process.send?.({ admitted, failed, calls, roundTrips })
