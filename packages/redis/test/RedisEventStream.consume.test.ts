import { ResilienceLive } from "@effect-resilience/core"
import { RedisConnection, RedisEventStream } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Ref, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { emit, onlyChanges, quiet, range, until } from "./utils/events.js"
import { long, scale } from "./utils/scale.js"
import { Worker } from "./utils/worker.js"

const url = inject("redisUrl")
const connection = (prefix: string) =>
  RedisConnection.layer({
    server: { _tag: "Standalone", url: String(url) },
    prefix,
    commandTimeout: "1 second"
  })
const publishing = (prefix: string) =>
  RedisEventStream.layer({ flushInterval: "5 millis", filter: onlyChanges }).pipe(
    Layer.provideMerge(ResilienceLive),
    Layer.provideMerge(connection(prefix)),
    Layer.provideMerge(quiet)
  )
const newPrefix = () => `${randomUUID()}:`
const command = (name: string, ...args: ReadonlyArray<string | number>) =>
  Effect.flatMap(RedisConnection, (redis) => redis.command(name, ...args))
const keyOf = (prefix: string) => `${prefix}e:{events}`
const numberOf = (element: RedisEventStream.Event | RedisEventStream.Undecoded) =>
  element._tag === "Event" ? Number(element.event.instance) : Number.NaN
const pendingOf = (prefix: string) =>
  Effect.map(command("xpending", keyOf(prefix), "mail"), (reply) => Number((reply as ReadonlyArray<unknown>)[0]))
const sorted = (numbers: Iterable<number>) => [...numbers].sort((a, b) => a - b)

describe.skipIf(url === undefined)("a group of consumers", () => {
  it.scopedLive("shares the events: each is dealt with once, and done", () => {
    const prefix = newPrefix()
    return Effect.gen(function*() {
      const dealt = yield* Ref.make<ReadonlyArray<readonly [string, number]>>([])
      const start = (consumer: string) =>
        Effect.forkScoped(RedisEventStream.consume(
          { group: "mail", consumer, from: "start", batch: 5 },
          (element) =>
            Effect.zipRight(
              Ref.update(dealt, (all) => [...all, [consumer, numberOf(element)] as const]),
              Effect.sleep("1 millis")
            )
        ))
      const fibers = [yield* start("one"), yield* start("two")]
      yield* emit(1, 200)
      yield* until(Effect.map(dealt, ({ length }) => length === 200))
      const all = yield* dealt
      expect(sorted(all.map(([, n]) => n))).toEqual(range(1, 200))
      expect(new Set(all.map(([consumer]) => consumer))).toEqual(new Set(["one", "two"]))
      yield* until(Effect.map(pendingOf(prefix), (pending) => pending === 0))

      // Who ends in order is no consumer any more.
      yield* Fiber.interruptAll(fibers)
      expect(yield* command("xinfo", "consumers", keyOf(prefix), "mail")).toEqual([])
    }).pipe(Effect.provide(publishing(prefix)))
  })

  it.scopedLive("one that is interrupted says what it has done, and the others do the rest", () => {
    const prefix = newPrefix()
    return Effect.gen(function*() {
      yield* emit(1, 10)
      const third = yield* Deferred.make<void>()
      const first: Array<number> = []
      const consumer = yield* Effect.fork(RedisEventStream.consume(
        { group: "mail", from: "start", claimAfter: "100 millis" },
        (element) =>
          numberOf(element) === 3
            ? Effect.zipRight(Deferred.succeed(third, void 0), Effect.never)
            : Effect.sync(() => void first.push(numberOf(element)))
      ))
      yield* Deferred.await(third)
      yield* Fiber.interrupt(consumer)
      expect(first).toEqual([1, 2])
      const rest: Array<number> = []
      yield* Effect.forkScoped(RedisEventStream.consume(
        { group: "mail", consumer: "another", claimAfter: "100 millis" },
        (element) => Effect.sync(() => void rest.push(numberOf(element)))
      ))
      yield* until(Effect.sync(() => rest.length >= 8))
      yield* until(Effect.map(pendingOf(prefix), (pending) => pending === 0))
      expect(sorted(rest)).toEqual(range(3, 10))
    }).pipe(Effect.provide(publishing(prefix)))
  })

  it.scopedLive(
    "RE13: consumers are killed at random: each event is dealt with, or put aside after its deliveries",
    () => {
      const prefix = newPrefix()
      const kills = scale(1, 10)
      const count = 300 * kills
      return Effect.gen(function*() {
        const dealt: Array<number> = []
        let started = 0
        const start = Effect.gen(function*() {
          const scope = yield* Scope.fork(yield* Effect.scope, { _tag: "Sequential" })
          const worker = yield* Worker.start(
            new URL("./workers/consumer.ts", import.meta.url),
            String(url),
            prefix,
            `consumer-${++started}`
          ).pipe(Effect.provideService(Scope.Scope, scope))
          // Also what is still on its way when it is killed.
          worker.child.on("message", (n) => typeof n === "number" && dealt.push(n))
          yield* worker.next
          return { worker, scope }
        })
        const workers = yield* Effect.all([start, start], { concurrency: 2 })
        for (let kill = 0; kill < kills; kill++) {
          const before = dealt.length
          yield* emit(300 * kill + 1, 300 * kill + 300)
          yield* until(Effect.sync(() => dealt.length > before + 20))
          const victim = workers.shift()
          if (victim !== undefined) yield* Scope.close(victim.scope, Exit.void)
          if (long) workers.push(yield* start)
        }
        const dead = Effect.map(
          command("xrange", `${keyOf(prefix)}:dead`, "-", "+"),
          (reply) =>
            (reply as ReadonlyArray<readonly [string, ReadonlyArray<string>]>).map(([, fields]) =>
              Number((JSON.parse(String(fields[fields.indexOf("e") + 1])) as { instance: string }).instance)
            )
        )
        // Those that always fail are put aside, and perhaps some whose consumers were killed as often.
        yield* until(Effect.map(dead, (letters) => new Set([...dealt, ...letters]).size === count))
        yield* until(Effect.map(pendingOf(prefix), (pending) => pending === 0))
        const isBad = (n: number) => n % 50 === 0
        expect(dealt.filter(isBad)).toEqual([])
        expect(sorted(yield* dead).filter(isBad)).toEqual(range(1, count).filter(isBad))
        expect(Number(yield* command("pttl", `${keyOf(prefix)}:dead`))).toBeGreaterThan(0)
      }).pipe(Effect.provide(publishing(prefix)))
    },
    60_000
  )

  it.scopedLive("goes on with what comes after the stream was lost", () => {
    const prefix = newPrefix()
    return Effect.gen(function*() {
      const dealt: Array<number> = []
      yield* Effect.forkScoped(RedisEventStream.consume(
        { group: "mail", from: "start" },
        (element) => Effect.sync(() => void dealt.push(numberOf(element)))
      ))
      yield* emit(1, 10)
      yield* until(Effect.sync(() => dealt.length === 10))
      yield* command("del", keyOf(prefix))
      yield* emit(11, 20)
      yield* until(Effect.sync(() => dealt.length === 20))
      expect(dealt).toEqual(range(1, 20))
    }).pipe(Effect.provide(publishing(prefix)))
  })

  it.scopedLive("a stream that is not there yet does not stay for ever", () => {
    const prefix = newPrefix()
    return Effect.gen(function*() {
      yield* Effect.forkScoped(RedisEventStream.consume({ group: "mail" }, () => Effect.void))
      yield* until(Effect.map(command("exists", keyOf(prefix)), (there) => there === 1))
      expect(Number(yield* command("pttl", keyOf(prefix)))).toBeGreaterThan(0)
    }).pipe(Effect.provide(connection(prefix)))
  })

  it.scopedLive("what waiting does not cure fails it, and bad options say what they must be", () => {
    const prefix = newPrefix()
    return Effect.gen(function*() {
      yield* command("set", keyOf(prefix), "not a stream", "px", 10_000)
      const failed = yield* Effect.flip(RedisEventStream.consume({ group: "mail" }, () => Effect.void))
      expect(failed.message).toContain("WRONGTYPE")
      const bad = yield* Effect.exit(RedisEventStream.consume({ group: "mail", batch: 0 }, () => Effect.void))
      expect(Exit.isFailure(bad) && Cause.pretty(bad.cause)).toContain(
        "RedisEventStream.consume \"mail\": option batch must be an integer from 1 to 1000, but is 0"
      )
    }).pipe(Effect.provide(connection(prefix)))
  })
})
