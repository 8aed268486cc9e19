/*
 * A process that asks for one key again and again, by leases that it does not give back. Told `{ callers, pause, millis }`
 * it asks for so long, and sends when it was let in, by the clock that all processes of the machine share, and the longest
 * a decision took. With `key: "still"` the key refills by one in a minute.
 */
import type { RateLimiterStore } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { Duration, Effect } from "effect"

const [url = "", prefix = "", limit = "0", burst = "0", overshoot = "0"] = process.argv.slice(2)

const requestOf = (key: string, rate: RateLimiterStore.Rate): RateLimiterStore.Request => ({
  instance: "workers",
  key,
  algorithm: "gcra",
  rates: [rate],
  cost: 1,
  mode: "all",
  maxWait: Duration.zero
})
const busy = requestOf("a", { limit: Number(limit), window: Duration.seconds(1), burst: Number(burst) })
const still = requestOf("still", {
  limit: Number(limit),
  window: Duration.minutes(Number(limit)),
  burst: Number(limit)
})

interface Order {
  readonly callers: number
  /** Milliseconds that a caller waits before it asks again. */
  readonly pause: number
  readonly millis: number
  readonly key?: "still"
}

const now = () => Number(process.hrtime.bigint() / 1000n) / 1000

const main = Effect.gen(function*() {
  const server = { _tag: "Standalone", url } as const
  const redis = yield* RedisConnection.make({
    server,
    prefix,
    commandTimeout: "10 seconds",
    socketTimeout: "10 seconds"
  })
  const store = yield* RedisRateLimiterStore.make({ leases: { maxOvershoot: Number(overshoot), heldFor: "1 minute" } })
    .pipe(
      Effect.provideService(RedisConnection, redis)
    )
  const work = ({ callers, key, millis, pause }: Order) =>
    Effect.gen(function*() {
      const end = now() + millis
      const grants: Array<number> = []
      let asked = 0
      let slowest = 0
      const turn = Effect.promise(() =>
        new Promise<void>((resolve) => pause > 0 ? setTimeout(resolve, pause) : setImmediate(resolve))
      )
      const caller = Effect.whileLoop({
        while: () => now() < end,
        body: () => {
          const since = now()
          return Effect.zipLeft(
            Effect.map(
              store.decide(key === undefined ? busy : still),
              (decision) => ({ decision, since, took: now() - since })
            ),
            turn
          )
        },
        step: ({ decision, since, took }) => {
          asked++
          slowest = Math.max(slowest, took)
          if (decision.granted > 0) grants.push(since + took)
        }
      })
      yield* Effect.all(Array.from({ length: callers }, () => caller), { concurrency: "unbounded", discard: true })
      const { roundTrips } = yield* redis.metrics
      process.send?.({ asked, grants, slowest, roundTrips })
    })
  process.on("message", (order: Order) => Effect.runFork(work(order)))
  while ((yield* redis.processes) < Number(process.env.PROCESSES ?? 4)) yield* Effect.sleep("20 millis")
  process.send?.("ready")
})

Effect.runFork(Effect.scoped(Effect.zipRight(main, Effect.never)))
