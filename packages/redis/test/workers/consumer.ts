/*
 * One of a group. It sends the number of each event that it has dealt with, and fails on those that can be divided by 50.
 */
import { RedisConnection, RedisEventStream } from "@effect-resilience/redis"
import { Effect, Logger, LogLevel } from "effect"

const [, , url = "", prefix = "", consumer = ""] = process.argv

const deal = (element: RedisEventStream.Event | RedisEventStream.Undecoded) =>
  Effect.gen(function*() {
    const n = element._tag === "Event" ? Number(element.event.instance) : Number.NaN
    yield* Effect.sleep("1 millis")
    if (n % 50 === 0) return yield* Effect.fail("not this one")
    process.send?.(n)
  })

const program = RedisEventStream.consume({
  group: "mail",
  consumer,
  from: "start",
  batch: 10,
  claimAfter: "400 millis",
  maxDeliveries: 2
}, deal)

process.send?.("ready")
await Effect.runPromise(program.pipe(
  Effect.provide(
    RedisConnection.layer({ server: { _tag: "Standalone", url }, prefix, commandTimeout: "1 second" })
  ),
  Logger.withMinimumLogLevel(LogLevel.None)
))
