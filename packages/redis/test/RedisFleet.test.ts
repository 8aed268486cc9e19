import { Bulkhead, CircuitBreaker, Fleet, ResilienceLive } from "@effect-resilience/core"
import { register } from "@effect-resilience/core/extension"
import { RedisConnection, RedisEventStream, RedisFleet } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import type { Context } from "effect"
import { Cause, Chunk, Deferred, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { processOf } from "../src/internal/fleet/board.js"
import { reportOf } from "../src/internal/fleet/report.js"
import { quiet, until } from "./utils/events.js"
import { canStart, Server } from "./utils/server.js"
import { Worker } from "./utils/worker.js"

const url = inject("redisUrl")
const quick = { interval: "100 millis", expireAfter: "500 millis" } as const
const connection = (url: string, prefix: string) =>
  RedisConnection.layer({ server: { _tag: "Standalone", url }, prefix, commandTimeout: "1 second" })

/** A process of the fleet, within this one. */
const member = (
  fleet: string,
  label: string,
  options: RedisFleet.Options = {}
) =>
  Layer.merge(
    RedisFleet.layer({ fleet, label, stream: fleet, ...quick, ...options }),
    RedisEventStream.layer({ stream: fleet, label, flushInterval: "5 millis" })
  ).pipe(
    Layer.provideMerge(ResilienceLive),
    Layer.provideMerge(connection(String(url), "fleet-test:"))
  )
type Env = Layer.Layer.Success<ReturnType<typeof member>>
const within = (context: Context.Context<Env>) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.provide(effect, context)
const open = (layer: ReturnType<typeof member>) => Effect.map(Layer.build(layer), within)
const statusOf = (label: string) =>
  Effect.map(Fleet.view, ({ processes }) => processes.find((one) => one.label === label)?.status)

const instanceOf = (n: number) => ({ pattern: "Bulkhead", instance: `n${n} ü€`, metrics: { limit: n }, settings: null })

describe.skipIf(url === undefined)("RedisFleet", () => {
  it.scopedLive("each sees how the instances of all do, itself first, and none that left", () => {
    const fleet = randomUUID()
    return Effect.gen(function*() {
      const inOne = yield* open(member(fleet, "one"))
      const scope = yield* Scope.make()
      const inTwo = within(yield* Layer.buildWithScope(member(fleet, "two"), scope))
      const breaker = yield* inOne(CircuitBreaker.make({ name: "payments" }))
      yield* inTwo(Bulkhead.make({ name: "reports", maxConcurrent: 7 }))
      yield* breaker.forceOpen("1 minute")
      yield* until(
        Effect.map(inTwo(Fleet.view), ({ processes }) => processes[1]?.instances[0]?.metrics["state"] === "ForcedOpen")
      )
      const { problem, processes } = yield* inTwo(Fleet.view)
      expect(problem).toEqual(Option.none())
      expect(processes).toMatchObject([
        {
          label: "two",
          status: "Live",
          instances: [{ pattern: "Bulkhead", instance: "reports", metrics: { limit: 7 } }]
        },
        { label: "one", status: "Live", instances: [{ pattern: "CircuitBreaker", metrics: { state: "ForcedOpen" } }] }
      ])
      expect(processes[0]?.id).toBe(yield* inTwo(Effect.map(Fleet, ({ self }) => self)))

      // One that looks from outside is not one of them.
      const seen = Effect.map(RedisFleet.processes({ fleet }), (all) => all.map(({ label }) => label).join())
      yield* Effect.provide(
        until(Effect.map(seen, (labels) => labels === "one,two")),
        connection(String(url), "fleet-test:")
      )

      // One that ends in order is not shown as dead.
      yield* Scope.close(scope, Exit.void)
      expect((yield* inOne(Fleet.view)).processes.map(({ label }) => label)).toEqual(["one"])
    })
  })

  it.scopedLive("hears the events of all, and whose they are", () => {
    const fleet = randomUUID()
    return Effect.gen(function*() {
      const inOne = yield* open(member(fleet, "one"))
      const inTwo = yield* open(member(fleet, "two"))
      const mine = yield* inOne(CircuitBreaker.make({ name: "payments" }))
      const theirs = yield* inTwo(CircuitBreaker.make({ name: "payments" }))
      const begun = yield* Deferred.make<void>()
      const hearing = yield* Effect.fork(inTwo(Fleet.events.pipe(
        Stream.tap(() => Deferred.succeed(begun, void 0)),
        Stream.filter(({ event }) => event._tag === "StateChanged"),
        Stream.takeUntil(({ event, label }) =>
          label === "two" && event._tag === "StateChanged" && event.to === "Disabled"
        ),
        Stream.runCollect
      )))
      yield* Effect.repeat(Effect.zipRight(mine.reset, Effect.sleep("10 millis")), {
        until: () => Effect.map(Deferred.poll(begun), Option.isSome)
      })
      yield* mine.forceOpen()
      yield* until(Effect.map(inOne(RedisEventStream.metrics), ({ waiting }) => waiting === 0))
      yield* theirs.disable
      expect(Chunk.toReadonlyArray(yield* hearing)).toMatchObject([
        { label: "one", event: { _tag: "StateChanged", to: "ForcedOpen" } },
        { label: "two", event: { _tag: "StateChanged", to: "Disabled" } }
      ])
    })
  })

  it.scopedLive("RE11: two processes see each other, a killed one is gone within its time, one that stops is late", () =>
    Effect.gen(function*() {
      const prefix = `${randomUUID()}:`
      const start = (label: string) =>
        Effect.tap(
          Worker.start(new URL("./workers/fleet.ts", import.meta.url), String(url), prefix, label),
          (worker) => worker.next
        )
      const [one, two] = yield* Effect.all([start("one"), start("two")], { concurrency: 2 })
      const ask = (worker: Worker) =>
        Effect.zipRight(Effect.sync(() => worker.send("view")), worker.next) as Effect.Effect<
          ReadonlyArray<{ label: string; status: string; age: number; states: ReadonlyArray<string> }>
        >
      const sees = (worker: Worker, ...expected: ReadonlyArray<string>) =>
        until(
          Effect.map(ask(worker), (processes) =>
            processes.map(({ label, states, status }) =>
              [label, status, ...states].join(" ")
            ).join() === expected.join())
        )
      yield* sees(one, "one Live Closed", "two Live Closed")
      yield* sees(two, "two Live Closed", "one Live Closed")
      one.send("open")
      yield* sees(two, "two Live Closed", "one Live ForcedOpen")

      one.child.kill("SIGSTOP")
      yield* sees(two, "two Live Closed", "one Late ForcedOpen")
      one.child.kill("SIGCONT")
      yield* sees(two, "two Live Closed", "one Live ForcedOpen")

      one.child.kill("SIGKILL")
      const killed = performance.now()
      yield* until(Effect.map(ask(two), (processes) => processes[1]?.status === "Gone"))
      // Its report was at most 120 ms old, and lives for 500.
      expect(performance.now() - killed).toBeLessThan(1500)
      expect(yield* ask(two)).toMatchObject([{ label: "two" }, { status: "Gone", states: [] }])

      two.send("leave")
      expect(yield* two.next).toBe("left")
      const left = yield* RedisFleet.processes().pipe(Effect.provide(connection(String(url), prefix)))
      expect(left.map(({ status }) => status)).toEqual(["Gone"])
    }))

  it.scopedLive("RE11: no key stays for longer than it is of use", () => {
    const fleet = randomUUID()
    return Effect.gen(function*() {
      const redis = yield* RedisConnection
      yield* until(Effect.map(RedisFleet.processes({ fleet }), ({ length }) => length === 1))
      const keys = [`fleet-test:f:{${fleet}}`, `fleet-test:f:{${fleet}}:p:${redis.id}`]
      for (const [key, most] of [[keys[0], 60_500], [keys[1], 500]] as const) {
        const life = Number(yield* redis.command("pttl", String(key)))
        expect(life).toBeGreaterThan(0)
        expect(life).toBeLessThanOrEqual(most)
      }
    }).pipe(Effect.provide(member(fleet, "one")))
  })

  it.scopedLive("RE16: an instance that cannot tell how it does is left out, and its process goes on", () => {
    const fleet = randomUUID()
    return Effect.gen(function*() {
      const inOne = yield* open(member(fleet, "one"))
      const inTwo = yield* open(member(fleet, "two"))
      yield* inOne(Bulkhead.make({ name: "reports", maxConcurrent: 7 }))
      yield* inOne(
        register({ pattern: "Own", instance: "broken", site: "here", snapshot: Effect.die("none"), actions: {} })
      )
      // Longer than a process lives that does not tell.
      yield* Effect.sleep("700 millis")
      const seen = Effect.map(
        Fleet.view,
        ({ processes }) =>
          processes.filter(({ label }) => label === "one").map((
            { instances, omitted, status }
          ) => [status, omitted, ...instances.map(({ instance }) => instance)])
      )
      yield* until(Effect.map(inTwo(seen), (one) => one.join() === "Live,1,reports"))
      expect(yield* inOne(seen)).toEqual([["Live", 1, "reports"]])
    }).pipe(Effect.provide(quiet))
  })

  it.scopedLive("RE15: many processes are read a few at a time, and what others ask comes between", () => {
    const fleet = randomUUID()
    return Effect.gen(function*() {
      const redis = yield* RedisConnection
      const index = `fleet-test:f:{${fleet}}`
      const report = reportOf({
        label: "one of many",
        interval: 1000,
        instances: Array.from({ length: 500 }, (_, n) => instanceOf(n)),
        silent: 0,
        maxBytes: 65_536
      })
      const ids = Array.from({ length: 100 }, (_, n) => `p${n}`)
      yield* Effect.forEach(ids, (id) =>
        Effect.zipRight(
          redis.command("zadd", index, Date.now(), id),
          redis.command("set", `${index}:p:${id}`, report, "px", 10_000)
        ), { discard: true })
      yield* redis.command("pexpire", index, 10_000)
      let answered = 0
      const others = yield* Effect.fork(Effect.forever(Effect.map(redis.command("ping"), () => answered++)))
      const processes = yield* RedisFleet.processes({ fleet })
      yield* Fiber.interrupt(others)
      expect(processes).toHaveLength(100)
      expect(processes.every(({ instances, omitted }) => instances.length > 300 && instances.length + omitted === 500))
        .toBe(true)
      expect(answered).toBeGreaterThan(8)
    }).pipe(Effect.provide(connection(String(url), "fleet-test:")))
  })

  it.scopedLive("a report of another version is said to be one", () => {
    const fleet = randomUUID()
    return Effect.gen(function*() {
      const redis = yield* RedisConnection
      const index = `fleet-test:f:{${fleet}}`
      yield* redis.command("zadd", index, Date.now(), "newer")
      yield* redis.command("set", `${index}:p:newer`, "{\"version\":2}", "px", 5000)
      const { processes } = yield* Fleet.view
      expect(processes[1]).toMatchObject({ id: "newer", status: "Live", instances: [] })
      expect(Option.getOrThrow(processes[1]?.problem ?? Option.none())).toContain("of another version")
    }).pipe(Effect.provide(member(fleet, "one")))
  })

  it.effect("bad options say what they must be", () =>
    Effect.gen(function*() {
      const problem = (options: RedisFleet.Options) =>
        Effect.map(Effect.exit(Effect.scoped(Layer.build(RedisFleet.layer(options)))), (exit) =>
          Exit.isFailure(exit) ? Cause.pretty(exit.cause).split("\n")[0] : "none")
      expect(yield* problem({ interval: "2 seconds" })).toContain(
        "RedisFleet \"fleet\": option expireAfter must be at least three times interval, but is 5s"
      )
      expect(yield* problem({ fleet: "a}b" })).toContain("option fleet must be a string of 1 to 100 characters")
      expect(yield* problem({ maxBytes: 10 })).toContain("option maxBytes must be an integer from 1024")
    }).pipe(Effect.provide(Layer.mergeAll(
      Layer.succeed(RedisConnection, {} as RedisConnection.Service),
      ResilienceLive
    ))))
})

describe.skipIf(!canStart)("the fleet, when Redis fails", () => {
  it.scopedLive("RE12: a process sees itself, says why it sees no other, and sees them again", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const live = (label: string) =>
        RedisFleet.layer({ label, ...quick }).pipe(
          Layer.provideMerge(ResilienceLive),
          Layer.provideMerge(
            RedisConnection.layer({ server: { _tag: "Standalone", url: server.url } })
          ),
          Layer.provideMerge(quiet)
        )
      yield* Effect.provide(Layer.build(live("other")), quiet)
      yield* Effect.gen(function*() {
        yield* until(Effect.map(statusOf("other"), (status) => status === "Live"))
        for (
          const [disturb, heal] of [
            [() => Promise.resolve(server.pause()), () => Promise.resolve(server.resume())],
            [() => server.kill(), () => server.start()]
          ] as const
        ) {
          yield* Effect.promise(disturb)
          const began = performance.now()
          const { problem, processes } = yield* Fleet.view
          expect(performance.now() - began).toBeLessThan(400)
          expect(processes.map(({ label }) => label)).toEqual(["own"])
          expect(Option.getOrThrow(problem)).toMatch(
            /^The other processes are not seen: Redis "redis" at [\d.:]+: fleet\.list failed/
          )
          yield* Effect.promise(heal)
          yield* until(Effect.map(statusOf("other"), (status) => status === "Live"))
          yield* until(Effect.map(Fleet.view, ({ problem }) => Option.isNone(problem)))
        }
      }).pipe(Effect.provide(live("own")))
    }))

  it.scopedLive("a server without room shows the others, and says that they do not see this one", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const admin = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(server.url)),
        (redis) => Effect.sync(() => redis.disconnect())
      )
      yield* Effect.gen(function*() {
        yield* until(Effect.map(RedisFleet.processes(), ({ length }) => length === 1))
        yield* Effect.promise(() => admin.config("SET", "maxmemory", "1"))
        yield* until(
          Effect.map(
            Fleet.view,
            ({ problem }) =>
              Option.exists(problem, (text) => text.startsWith("The other processes do not see this one"))
          )
        )
        yield* Effect.promise(() => admin.config("SET", "maxmemory", "0"))
        yield* until(Effect.map(Fleet.view, ({ problem }) => Option.isNone(problem)))
      }).pipe(Effect.provide(
        RedisFleet.layer(quick).pipe(
          Layer.provideMerge(ResilienceLive),
          Layer.provideMerge(RedisConnection.layer({ server: { _tag: "Standalone", url: server.url } })),
          Layer.provideMerge(quiet)
        )
      ))
    }))
})

describe("a report", () => {
  const instances = Array.from({ length: 500 }, (_, n) => instanceOf(n))

  it("is never longer than it may be, and counts what it leaves out", () => {
    for (const maxBytes of [1024, 5000, 262_144]) {
      const text = reportOf({ label: "ü".repeat(100), interval: 1000, instances, silent: 0, maxBytes })
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(maxBytes)
      const { instances: told, omitted } = processOf("a", 0, text)
      expect(told.length + omitted).toBe(500)
      expect(told).toEqual(instances.slice(0, told.length))
      expect(told.length).toBe(maxBytes === 262_144 ? 500 : told.length)
      expect(told.length).toBeGreaterThan(0)
    }
  })

  it("that is none, or of another version, is a problem and no error", () => {
    const good = { version: 1, label: "a", interval: 1000, omitted: 0, instances: [instanceOf(1)] }
    const seen = (report: unknown) => processOf("id", 0, typeof report === "string" ? report : JSON.stringify(report))
    expect(seen(good)).toMatchObject({ label: "a", problem: Option.none(), instances: [instanceOf(1)] })
    const bad = [
      "no JSON",
      ...["", null, 1, []],
      ...[{ version: 2 }, { label: 1 }, { interval: 0 }, { omitted: "1" }, { instances: {} }].map((part) => ({
        ...good,
        ...part
      })),
      ...[null, { pattern: 1 }, { instance: null }, { metrics: [] }, { metrics: null }, { settings: 1 }].map((
        part
      ) => ({
        ...good,
        instances: [part === null ? null : { ...instanceOf(1), ...part }]
      }))
    ]
    for (const report of bad) {
      const { instances, label, problem, status } = seen(report)
      expect([label, status, instances, Option.isSome(problem)], JSON.stringify(report)).toEqual([
        "id",
        "Live",
        [],
        true
      ])
    }
  })

  it("is late after two and a half intervals, and gone without one", () => {
    const text = reportOf({ label: "a", interval: 1000, instances: [], silent: 0, maxBytes: 1024 })
    expect(processOf("a", 2500, text).status).toBe("Live")
    expect(processOf("a", 2501, text).status).toBe("Late")
    expect(processOf("a", 0, null).status).toBe("Gone")
  })
})
