import { Bulkhead, CircuitBreaker, ResilienceEvent, ResilienceLive } from "@effect-resilience/core"
import { RedisConnection, RedisEventStream } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Chunk, Deferred, Effect, Exit, FastCheck, Layer, Logger, SchemaAST, Stream } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import type { Entry } from "../src/internal/events/entry.js"
import { advance, encodeEvent, isBefore } from "../src/internal/events/entry.js"
import { Outbox } from "../src/internal/events/outbox.js"
import { change, emit, numbers, onlyChanges, range, until } from "./utils/events.js"
import { scale } from "./utils/scale.js"

const url = inject("redisUrl")
const connection = RedisConnection.layer({
  server: { _tag: "Standalone", url: String(url) },
  prefix: "events-test:",
  commandTimeout: "1 second"
})

const publishing = (options: RedisEventStream.Options) =>
  RedisEventStream.layer({ flushInterval: "5 millis", ...options }).pipe(
    Layer.provideMerge(ResilienceLive),
    Layer.provideMerge(connection)
  )
const everything = { filter: RedisEventStream.everything }

const collect = (stream: string, count: number, from: RedisEventStream.From = "start") =>
  RedisEventStream.follow({ stream, from }).pipe(
    Stream.take(count),
    Stream.runCollect,
    Effect.map(Chunk.toReadonlyArray),
    Effect.timeout("10 seconds")
  )
const command = (name: string, ...args: ReadonlyArray<string | number>) =>
  Effect.flatMap(RedisConnection, (redis) => redis.command(name, ...args))
const keyOf = (stream: string) => `events-test:e:{${stream}}`
const lengthOf = (stream: string) => Effect.map(command("xlen", keyOf(stream)), Number)

describe.skipIf(url === undefined)("RedisEventStream", () => {
  it.scopedLive("tells every process what changes, and who it was, and nothing of each call", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments", consecutiveFailures: 1 })
      const bulkhead = yield* Bulkhead.make({ name: "reports" })
      yield* bulkhead.withPermit(Effect.void)
      yield* Effect.exit(breaker.withBreaker(Effect.fail(new Error("down"))))
      yield* breaker.reset
      const elements = yield* collect(stream, 3)
      expect(elements).toMatchObject([
        { _tag: "Event", label: "api-1", event: { _tag: "StateChanged", instance: "payments", to: "Open" } },
        { _tag: "Event", label: "api-1", event: { _tag: "Reset", instance: "payments" } },
        { _tag: "Event", label: "api-1", event: { _tag: "StateChanged", instance: "payments", to: "Closed" } }
      ])
      const { id } = yield* RedisConnection
      expect(elements.map((one) => one._tag === "Gap" ? "gap" : one.process)).toEqual([id, id, id])
      yield* until(Effect.map(RedisEventStream.metrics, ({ published }) => published === 3))
      expect(yield* lengthOf(stream)).toBe(3)
    }).pipe(Effect.provide(publishing({ stream, label: "api-1" })))
  })

  it.scopedLive("what the filter keeps is what is published, and an error is told by name and message", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments", consecutiveFailures: 9 })
      yield* breaker.withBreaker(Effect.void)
      yield* Effect.exit(breaker.withBreaker(Effect.fail(new TypeError("down"))))
      const [succeeded, failed] = yield* collect(stream, 2)
      expect(succeeded).toMatchObject({ _tag: "Event", event: { _tag: "CallSucceeded" } })
      expect(failed).toMatchObject({ _tag: "Event", event: { _tag: "CallFailed", tripped: false } })
      expect(failed?._tag === "Event" && failed.event._tag === "CallFailed" && String(failed.event.error)).toBe(
        "TypeError: down"
      )
    }).pipe(Effect.provide(publishing({ stream, ...everything })))
  })

  it.scopedLive("W-E9: two followers have all events in their order, and one that comes back goes on where it was", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      const both = yield* Effect.fork(Effect.all([collect(stream, 300), collect(stream, 300)], { concurrency: 2 }))
      yield* emit(1, 300)
      const [one, other] = yield* both
      expect(numbers(one)).toEqual(range(1, 300))
      expect(numbers(other)).toEqual(range(1, 300))
      const at = one[99]
      const rest = yield* collect(stream, 200, at?._tag === "Event" ? at.id : "none")
      expect(numbers(rest)).toEqual(range(101, 300))
    }).pipe(Effect.provide(publishing({ stream })))
  })

  it.scopedLive("one that begins now hears nothing of what was", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      yield* emit(1, 10)
      yield* until(Effect.map(lengthOf(stream), (length) => length === 10))
      const begun = yield* Deferred.make<void>()
      const following = yield* Effect.fork(
        RedisEventStream.follow({ stream }).pipe(
          Stream.tap(() => Deferred.succeed(begun, void 0)),
          Stream.take(5),
          Stream.runCollect
        )
      )
      // It is there as soon as it hears anything.
      let n = 100
      yield* Effect.repeat(Effect.zipRight(Effect.suspend(() => emit(n, n++)), Effect.sleep("10 millis")), {
        until: () => Effect.map(Deferred.poll(begun), (told) => told._tag === "Some")
      })
      yield* emit(n, n + 10)
      const heard = numbers(yield* following)
      expect(Math.min(...heard)).toBeGreaterThanOrEqual(100)
      expect(heard).toEqual(range(heard[0] ?? 0, (heard[0] ?? 0) + 4))
    }).pipe(Effect.provide(publishing({ stream })))
  })

  it.scopedLive("RE5: a follower that trimming overtakes is told how many it missed", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      const first = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const following = yield* Effect.fork(
        RedisEventStream.follow({ stream, from: "start" }).pipe(
          Stream.tap((element) =>
            Effect.zipRight(
              Deferred.succeed(first, void 0),
              element._tag === "Event" ? Deferred.await(goOn) : Effect.void
            )
          ),
          Stream.takeUntil((element) => element._tag === "Event" && element.event.instance === "1000"),
          Stream.runCollect
        )
      )
      yield* emit(1, 1)
      yield* Deferred.await(first)
      yield* emit(2, 1000)
      yield* until(Effect.map(RedisEventStream.metrics, ({ published }) => published === 1000))
      expect(yield* lengthOf(stream)).toBe(100)
      yield* Deferred.succeed(goOn, void 0)
      const elements = [...yield* following]
      const gaps = elements.flatMap((one) => one._tag === "Gap" ? [one] : [])
      expect(gaps).toMatchObject([{ lost: 899 }])
      expect(numbers(elements)).toEqual([1, ...range(901, 1000)])

      // One that was away for so long does not know how many.
      const again = yield* collect(stream, 101, gaps[0]?.after)
      expect(again[0]).toEqual({ _tag: "Gap", after: gaps[0]?.after, before: undefined, lost: undefined })
      expect(numbers(again)).toEqual(range(901, 1000))
    }).pipe(Effect.provide(publishing({ stream, maxLength: 100 })))
  })

  it.scopedLive("RE10: what it does not understand is passed on as it is, and hinders nothing", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      yield* emit(1, 1)
      yield* until(Effect.map(lengthOf(stream), (length) => length === 1))
      const foreign = (n: number) => ["n", n, "p", "later", "l", "new"]
      yield* command("xadd", keyOf(stream), "*", ...foreign(2), "v", "2", "e", "{\"of\":\"later\"}")
      yield* command("xadd", keyOf(stream), "*", ...foreign(3), "v", "1", "e", "{\"_tag\":\"NeverHeardOf\"}")
      yield* command("xadd", keyOf(stream), "*", ...foreign(4), "v", "1", "e", "{ no json")
      yield* command("xadd", keyOf(stream), "*", "somebody", "else")
      yield* command("set", `${keyOf(stream)}:n`, 4)
      yield* emit(2, 2)
      const elements = yield* collect(stream, 6)
      expect(elements).toMatchObject([
        { _tag: "Event", event: change(1) },
        { _tag: "Undecoded", process: "later", label: "new", version: "2", text: "{\"of\":\"later\"}" },
        { _tag: "Undecoded", version: "1", text: "{\"_tag\":\"NeverHeardOf\"}" },
        { _tag: "Undecoded", version: "1", text: "{ no json" },
        { _tag: "Undecoded", process: "unknown", version: undefined, text: "[[\"somebody\",\"else\"]]" },
        { _tag: "Event", event: change(2) }
      ])
    }).pipe(Effect.provide(publishing({ stream })))
  })

  it.scopedLive("what waiting does not cure fails the stream", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      yield* command("set", keyOf(stream), "not a stream", "px", 10_000)
      const failed = yield* Effect.flip(collect(stream, 1))
      expect(failed).toMatchObject({ _tag: "RedisUnavailableError", command: "xread", reason: "Reply" })
      expect(failed.message).toContain("WRONGTYPE")
    }).pipe(Effect.provide(connection))
  })

  it.scopedLive("RE4: keeps up with many events, and the stream keeps its bound and its expiry", () => {
    const stream = randomUUID()
    const count = scale(20_000, 100_000)
    return Effect.gen(function*() {
      const began = performance.now()
      // As fast as they are published, and no faster.
      for (let n = 1; n <= count; n += 1000) {
        yield* until(Effect.map(RedisEventStream.metrics, ({ waiting }) => waiting < 2000))
        yield* emit(n, n + 999)
      }
      yield* until(Effect.map(RedisEventStream.metrics, ({ dropped, published }) => published + dropped === count))
      const took = performance.now() - began
      expect(yield* RedisEventStream.metrics).toEqual({ published: count, dropped: 0, waiting: 0, failing: false })
      const length = yield* lengthOf(stream)
      expect(length).toBeGreaterThanOrEqual(2000)
      expect(length).toBeLessThanOrEqual(2200)
      for (const key of [keyOf(stream), `${keyOf(stream)}:n`]) {
        const life = Number(yield* command("pttl", key))
        expect(life).toBeGreaterThan(3_500_000)
        expect(life).toBeLessThanOrEqual(3_600_000)
      }
      yield* Effect.logDebug(`${Math.round(count / took * 1000)} events a second, ${length} entries`)
    }).pipe(Effect.provide(publishing({ stream, filter: onlyChanges, maxLength: 2000, expireAfter: "1 hour" })))
  })

  it.scopedLive("RE3: more than the queue holds pushes out the oldest, is counted, and told once", () => {
    const stream = randomUUID()
    const warnings: Array<string> = []
    const logger = Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => warnings.push(String(message))))
    return Effect.gen(function*() {
      yield* emit(1, 500)
      yield* emit(501, 1000)
      const elements = yield* collect(stream, 10)
      expect(numbers(elements)).toEqual(range(991, 1000))
      yield* until(Effect.map(RedisEventStream.metrics, ({ published }) => published === 10))
      expect(yield* RedisEventStream.metrics).toMatchObject({ dropped: 990, failing: false })
      yield* emit(1, 500)
      yield* until(Effect.map(RedisEventStream.metrics, ({ published }) => published === 20))
      expect(warnings.filter((warning) => warning.includes("are dropped"))).toHaveLength(1)
    }).pipe(
      Effect.provide(
        Layer.provideMerge(publishing({ stream, filter: onlyChanges, queue: 10, flushInterval: "300 millis" }), logger)
      )
    )
  })

  it.scopedLive("an event that cannot be encoded is left out and counted, and the rest goes", () => {
    const stream = randomUUID()
    const hostile = { toString: () => "never asked" }
    return Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments", consecutiveFailures: 99 })
      yield* Effect.exit(breaker.withBreaker(Effect.fail(new Error("x".repeat(20_000)))))
      yield* Effect.exit(breaker.withBreaker(Effect.fail(hostile)))
      const [only] = yield* collect(stream, 1)
      expect(only).toMatchObject({ _tag: "Event", event: { _tag: "CallFailed" } })
      expect(yield* RedisEventStream.metrics).toMatchObject({ dropped: 1 })
    }).pipe(Effect.provide(publishing({ stream, ...everything })))
  })

  it.scopedLive("what waits when the layer closes is published", () => {
    const stream = randomUUID()
    return Effect.gen(function*() {
      yield* emit(1, 700).pipe(Effect.provide(publishing({ stream, flushInterval: "1 minute" })))
      expect(numbers(yield* collect(stream, 700).pipe(Effect.provide(connection)))).toEqual(range(1, 700))
    })
  })

  it.effect("bad options say what they must be", () =>
    Effect.gen(function*() {
      const of = (options: RedisEventStream.Options) =>
        Effect.map(Effect.exit(Layer.build(RedisEventStream.layer(options))), (exit) =>
          Exit.isFailure(exit) ? Cause.pretty(exit.cause).split("\n")[0] : "")
      const dead = (effect: Effect.Effect<string | undefined, never, any>) =>
        effect as Effect.Effect<string | undefined>
      expect(yield* dead(Effect.scoped(of({ stream: "{a}" })))).toContain(
        "RedisEventStream \"default\": option stream must be a string of 1 to 100 characters without braces, but is \"{a}\""
      )
      expect(yield* dead(Effect.scoped(of({ maxLength: 0.5 })))).toContain("option maxLength must be an integer")
      expect(yield* dead(Effect.scoped(of({ queue: Number.NaN })))).toContain("option queue must be an integer")
      expect(yield* dead(Effect.scoped(of({ expireAfter: -1 })))).toContain("option expireAfter must be a duration")
      const from = yield* Effect.exit(Stream.runDrain(RedisEventStream.follow({ from: "yesterday" })))
      expect(Exit.isFailure(from) && Cause.pretty(from.cause)).toContain("option from must be \"now\", \"start\"")
    }).pipe(Effect.provide(Layer.succeed(RedisConnection, {} as RedisConnection.Service))))
})

describe("the numbers of entries", () => {
  const entry = (n: number): Entry => ({
    id: `${n}-0`,
    n,
    fields: new Map([["n", String(n)], ["p", "p"], ["l", "l"], ["v", "1"], ["e", encodeEvent(change(n))]])
  })

  it("whatever is trimmed, and in whatever pieces it is read, read and lost are all there was", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.uniqueArray(FastCheck.integer({ min: 2, max: 40 })),
      FastCheck.array(FastCheck.integer({ min: 1, max: 5 })),
      (trimmed, pieces) => {
        // 1 was read and 41 is there, so that both ends are known.
        const left = range(1, 41).filter((n) => !trimmed.includes(n)).map(entry)
        const sizes = [...pieces, left.length]
        let position = { id: "0-0", n: undefined as number | undefined }
        let seen: ReadonlyArray<RedisEventStream.Element> = []
        let at = 0
        for (const size of sizes) {
          const [elements, next] = advance(position, left.slice(at, at + size))
          seen = [...seen, ...elements]
          position = next
          at += size
        }
        expect(numbers(seen)).toEqual(left.map(({ n }) => n))
        const lost = seen.map((one) => one._tag === "Gap" ? one.lost ?? Number.NaN : 0).reduce((a, b) => a + b, 0)
        expect(lost).toBe(trimmed.length)
      }
    ))
  })

  it("a stream that begins anew is a gap of unknown size", () => {
    const [elements, position] = advance({ id: "5-0", n: 5 }, [{ ...entry(1), id: "9-0" }, { ...entry(2), id: "9-1" }])
    expect(elements.map(({ _tag }) => _tag)).toEqual(["Gap", "Event", "Event"])
    expect(elements[0]).toEqual({ _tag: "Gap", after: "5-0", before: "9-0", lost: undefined })
    expect(position).toEqual({ id: "9-1", n: 2 })
  })

  it("ids are compared as numbers", () => {
    expect(isBefore("9-0", "10-0")).toBe(true)
    expect(isBefore("10-9", "10-10")).toBe(true)
    expect(isBefore("10", "10-0")).toBe(false)
    expect(isBefore("18446744073709551614-0", "18446744073709551615-0")).toBe(true)
  })

  it("the outbox holds the newest, in their order, and counts the rest", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.integer({ min: 1, max: 8 }),
      FastCheck.array(FastCheck.integer({ min: 0, max: 5 })),
      (capacity, steps) => {
        const outbox = new Outbox<number>(capacity)
        let model: Array<number> = []
        let dropped = 0
        for (const [i, take] of steps.entries()) {
          if (take === 0) {
            outbox.push(i)
            model.push(i)
            if (model.length > capacity) {
              model = model.slice(1)
              dropped++
            }
          } else {
            expect(outbox.take(take)).toEqual(model.slice(0, take))
            model = model.slice(take)
          }
          expect([outbox.size, outbox.dropped]).toEqual([model.length, dropped])
        }
      }
    ))
  })
})

/** The tags of all events. */
const tagsOf = (ast: SchemaAST.AST): ReadonlyArray<string> => {
  if (SchemaAST.isUnion(ast)) return ast.types.flatMap(tagsOf)
  const struct = SchemaAST.isTransformation(ast) ? ast.to : ast
  if (!SchemaAST.isTypeLiteral(struct)) throw new Error(`an event is no struct: ${String(ast)}`)
  const tag = struct.propertySignatures.find(({ name }) => name === "_tag")?.type
  if (tag === undefined || !SchemaAST.isLiteral(tag)) throw new Error(`an event has no tag: ${String(ast)}`)
  return [String(tag.literal)]
}

/** Of these there is one for each call, or each attempt of one. */
const ofCalls = [
  "Accepted",
  "Allowed",
  "CallFailed",
  "CallIgnored",
  "CallRejected",
  "CallSucceeded",
  "CompletedInTime",
  "Exceeded",
  "FallbackExhausted",
  "FallbackUsed",
  "PermitAcquired",
  "PermitReleased",
  "Rejected",
  "RetryExhausted",
  "RetryScheduled",
  "RetrySucceeded",
  "Shed",
  "TimedOut"
]

describe("the events that are published by default", () => {
  it("are all but those of single calls", () => {
    const left = tagsOf(ResilienceEvent.ast).filter((tag) =>
      !RedisEventStream.changes({ ...change(1), _tag: tag } as ResilienceEvent)
    )
    expect([...new Set(left)].sort()).toEqual(ofCalls)
  })
})
