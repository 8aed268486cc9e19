/**
 * A check of a circuit that processes share: how many round trips it costs, and how much longer it takes than one of a
 * circuit that nobody shares.
 *
 * By itself: `node --conditions=@effect-resilience/source --import tsx bench/src/redis/breaker.ts redis://127.0.0.1:6379`.
 */
import { CircuitBreaker } from "@effect-resilience/core"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { Effect, Layer } from "effect"
import type { DurationInput } from "effect/Duration"
import { pathToFileURL } from "node:url"

/** Round trips for each check. */
export const target = 0

export interface BreakerCase {
  readonly name: string
  readonly target: number
  /** Round trips for each check. */
  readonly measured: number
  readonly met: boolean
  readonly checks: number
  /** Round trips of a second beside them, whatever the number of checks: what is told of them all at once. */
  readonly reportsPerSecond: number
  readonly nanos: number
  /** The same circuit, shared with nobody. */
  readonly aloneNanos: number
}

/** A connection that counts what is asked of the server. */
const counting = (redis: RedisConnection.Service) => {
  const trips = { count: 0 }
  const counted = <K extends "run" | "unsafeRun" | "command">(name: K) => ({
    value: (...args: ReadonlyArray<never>) => {
      trips.count++
      return (redis[name] as (...args: ReadonlyArray<never>) => unknown)(...args)
    }
  })
  const service: RedisConnection.Service = Object.create(redis, {
    run: counted("run"),
    unsafeRun: counted("unsafeRun"),
    command: counted("command")
  })
  return { service, trips }
}

const body = Effect.succeed(1)
const rounds = 8

/** Nanoseconds of a call, by many; the fastest of some rounds. */
const time = (breaker: CircuitBreaker.Service, calls: number) => {
  const call = breaker.withBreaker(body)
  const round = Effect.gen(function*() {
    let i = 0
    const start = performance.now()
    yield* Effect.whileLoop({ while: () => i < calls, body: () => call, step: () => i++ })
    return (performance.now() - start) * 1e6 / calls
  })
  return Effect.map(Effect.replicateEffect(round, rounds), (all) => Math.min(...all))
}

/** A case of so many calls, against the server at `url`: a URL or the path of a socket. */
export const breakerCase = (url: string, calls = 100_000): Promise<BreakerCase> =>
  Effect.runPromise(Effect.scoped(Effect.gen(function*() {
    const { service, trips } = counting(yield* RedisConnection.make({ server: { _tag: "Standalone", url } }))
    const shared = (name: string, reportEvery: DurationInput) =>
      RedisCircuitBreaker.layer({ reportEvery }).pipe(
        Layer.provide(Layer.succeed(RedisConnection, service)),
        Layer.build,
        Effect.flatMap((fleet) => Effect.provide(CircuitBreaker.make({ name }), fleet))
      )
    const silent = yield* shared("bench-silent", "1 hour")
    const alone = yield* CircuitBreaker.make({ name: "bench-alone" })
    yield* Effect.sleep(200)
    const before = trips.count
    const nanos = yield* time(silent, calls)
    const asked = trips.count - before
    const aloneNanos = yield* time(alone, calls)

    const usual = yield* shared("bench-usual", "1 second")
    yield* Effect.sleep(200)
    const [since, from] = [performance.now(), trips.count]
    yield* Effect.repeatN(Effect.zipRight(time(usual, calls), Effect.sleep(1)), 3)
    const seconds = Math.max(1, (performance.now() - since) / 1000)
    const measured = asked / (rounds * calls)
    return {
      name: "breaker: a check of a closed circuit that is shared",
      target,
      measured,
      met: measured <= target,
      checks: rounds * calls,
      reportsPerSecond: Number(((trips.count - from) / seconds).toFixed(1)),
      nanos: Math.round(nanos),
      aloneNanos: Math.round(aloneNanos)
    }
  })))

const [, self, url] = process.argv
if (self !== undefined && import.meta.url === pathToFileURL(self).href) {
  if (url === undefined) throw new Error("which server? pass its URL")
  console.error(JSON.stringify(await breakerCase(url)))
}
