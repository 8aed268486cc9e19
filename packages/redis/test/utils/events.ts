import type { ResilienceEvent } from "@effect-resilience/core"
import { EventBus } from "@effect-resilience/core"
import { publish } from "@effect-resilience/core/extension"
import type { RedisEventStream } from "@effect-resilience/redis"
import { Effect, Logger, LogLevel, Schedule } from "effect"

/** A change of state of the breaker of this number. */
export const change = (n: number): ResilienceEvent => ({
  _tag: "StateChanged",
  pattern: "CircuitBreaker",
  instance: String(n),
  timestamp: n,
  from: "Closed",
  to: "Open",
  cause: "ConsecutiveFailures"
})

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** Puts changes on the bus, no faster than it takes them. */
export const emit = (from: number, to: number) =>
  Effect.flatMap(EventBus, (bus) =>
    Effect.gen(function*() {
      for (let n = from; n <= to; n++) {
        yield* publish(bus, () => change(n))
        if (n % 100 === 0) yield* turn
      }
      yield* turn
    }))

/** Keeps those alone, and not the reports of a Redis that is slow. */
export const onlyChanges = (event: ResilienceEvent) => event._tag === "StateChanged"

/** The numbers of the events, in their order. */
export const numbers = (elements: Iterable<RedisEventStream.Element>): ReadonlyArray<number> =>
  [...elements].flatMap((element) => element._tag === "Event" ? [Number(element.event.instance)] : [])

export const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** Waits until it holds; what never does is a timeout. */
export const until = <E, R>(what: Effect.Effect<boolean, E, R>): Effect.Effect<void, never, R> =>
  Effect.flatMap(what, (holds) => holds ? Effect.void : Effect.fail("not yet")).pipe(
    Effect.retry(Schedule.spaced("5 millis")),
    Effect.timeout("10 seconds"),
    Effect.orDie
  )

/** For what fails on purpose. */
export const quiet = Logger.minimumLogLevel(LogLevel.None)
