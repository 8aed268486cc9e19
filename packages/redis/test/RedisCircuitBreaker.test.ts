import { CircuitBreaker } from "@effect-resilience/core"
import type { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Context, Duration, Effect, Exit, Layer, Option } from "effect"
import { inject } from "vitest"
import { all, fail, fresh, inProcess, member, membersOf, scripts, wereTold } from "./utils/circuits.js"
import { canStart, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

const url = inject("redisUrl")

describe.skipIf(url === undefined)("a shared circuit breaker", () => {
  it.scopedLive("opens for all when two fail, tells truly for how long, and closes for all after its probes", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = { openDuration: "300 millis", halfOpenMaxCalls: 2, successThreshold: 2 } as const
      const members = yield* membersOf(3, where, options)
      const [a, b, c] = members
      yield* a.trip
      yield* a.is("Open")
      yield* Effect.sleep(30)
      expect([yield* b.breaker.state, yield* c.breaker.state]).toEqual(["Closed", "Closed"])
      yield* b.trip
      yield* all(members, "Open")
      const error = yield* Effect.flip(c.breaker.withBreaker(Effect.void))
      expect(error.reason).toBe("Open")
      expect(Duration.toMillis(Option.getOrThrow(error.retryAfter))).toBeLessThanOrEqual(300)
      yield* eventually("it is time to probe", c.breaker.wouldAdmit)
      yield* c.breaker.withBreaker(Effect.void)
      expect(yield* c.breaker.state).toBe("HalfOpen")
      yield* c.breaker.withBreaker(Effect.void)
      yield* all(members, "Closed")
      expect(c.told).toEqual([
        "fleet Open",
        "Open Shared",
        "HalfOpen OpenDurationOver",
        "fleet HalfOpen",
        "fleet Closed",
        "Closed Shared"
      ])
      expect(a.told.filter((text) => !text.startsWith("fleet"))).toEqual(["Open ConsecutiveFailures", "Closed Shared"])
      expect((yield* c.breaker.metrics).shared).toMatchObject({ state: "Closed", followed: true, dropped: 0 })
    }))

  it.scopedLive("RC14: tells that it opened at once, whatever its process does then", () =>
    Effect.gen(function*() {
      const where = { ...fresh(), commandTimeout: 5000 }
      const { breaker, epoch, is, trip } = yield* member(where, {}, { quorum: 1 })
      let opened = 0
      const busy = Effect.sync(() => {
        opened = Date.now()
        while (Date.now() < opened + 1500);
      })
      yield* Effect.zipRight(trip, busy)
      yield* is("Open")
      yield* eventually("the fleet is open", Effect.map(breaker.metrics, ({ shared }) => shared?.state === "Open"))
      // The epoch is the time of the server, in microseconds: when it heard of it.
      expect((yield* epoch) / 1000 - opened).toBeLessThan(750)
    }))

  it.scopedLive("opens for all by calls of which no process has enough", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = { consecutiveFailures: false, minimumCalls: 20 } as const
      const shared = { reportEvery: "30 millis" } as const
      const members = yield* membersOf(3, where, options, shared)
      yield* Effect.forEach(members, ({ breaker }) => Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 6))
      yield* all(members, "Open")
      for (const { told } of members) expect(told).toContain("Open Shared")
    }))

  it.scopedLive("opens a process that starts while it is open, and keeps the circuits of the keys apart", () =>
    Effect.gen(function*() {
      const where = fresh()
      class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", { openDuration: "1 minute" }) {}
      const hosts = Effect.flatMap(
        inProcess(where),
        (context) =>
          Effect.flatMap(
            Layer.build(Layer.provide(Hosts.Live, Layer.succeedContext(context))),
            (built) => Effect.succeed(Context.get(built, Hosts))
          )
      )
      const [a, b] = yield* Effect.all([hosts, hosts])
      const trip = (one: CircuitBreaker.KeyedService) =>
        Effect.repeatN(Effect.exit(one.withBreakerBy({ key: "x:{1}" })(fail)), 4)
      yield* Effect.all([trip(a), trip(b)])
      const c = yield* hosts
      yield* eventually(
        "the new process has heard",
        Effect.map(Effect.exit(c.withBreakerBy({ key: "x:{1}" })(Effect.void)), Exit.isFailure)
      )
      expect(yield* c.withBreakerBy({ key: "y" })(Effect.succeed(1))).toBe(1)
      expect((yield* c.metrics).open.map(({ key }) => key)).toEqual(["x:{1}"])
    }))

  it.scopedLive(
    "RC2: asks nobody about a closed circuit, and tells of all calls at once",
    () =>
      Effect.gen(function*() {
        if (!canStart) return
        const { url } = yield* Server.start()
        const { breaker, redis } = yield* member({ ...fresh(url), silent: true }, {}, { reportEvery: "1 hour" })
        const before = yield* scripts(redis)
        const start = performance.now()
        yield* Effect.repeatN(breaker.withBreaker(Effect.void), 99_999)
        // A process says once a second that it is there: that is all.
        const beats = Math.ceil((performance.now() - start) / 900) + 1
        expect((yield* scripts(redis)) - before).toBeLessThanOrEqual(beats)

        const where = { ...fresh(url), silent: true }
        const other = yield* member(where, {}, { reportEvery: "50 millis" })
        // A closed circuit that is reset begins another record.
        yield* other.breaker.reset
        yield* Effect.repeatN(other.breaker.withBreaker(Effect.void), 9_999)
        const votes = Effect.orDie(redis.command("hvals", `${where.prefix}cb:{payments}:w3000`))
        const sum = (all: RedisConnection.Reply) => Array.isArray(all) ? all.reduce((n, one) => n + Number(one), 0) : 0
        yield* eventually("all calls are told", Effect.map(votes, (all) => sum(all) === 10_000))
      }),
    30_000
  )

  it.scopedLive(
    "does not hurry with failures that open nothing, and not without end with those that may",
    () =>
      Effect.gen(function*() {
        if (!canStart) return
        const { url } = yield* Server.start()
        const rarely = { reportEvery: "1 hour" } as const
        const byRate = { consecutiveFailures: false } as const
        const tolerant = yield* member({ ...fresh(url), silent: true }, byRate, rarely)
        const patient = { ...byRate, minimumCalls: 1_000_000 } as const
        const undecided = yield* member({ ...fresh(url), silent: true }, patient, rarely)
        const { redis } = tolerant
        /** How many scripts run meanwhile, without those by which the two processes say that they are there. */
        const during = (calls: Effect.Effect<unknown>) =>
          Effect.gen(function*() {
            const before = yield* scripts(redis)
            const start = performance.now()
            while (performance.now() - start < 400) {
              yield* calls
              yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
            }
            const took = performance.now() - start
            return { reports: (yield* scripts(redis)) - before - 2 * Math.ceil(took / 900) - 2, took }
          })
        const fails = ({ breaker }: typeof tolerant) => Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 24)
        const works = Effect.ignore(tolerant.breaker.withBreaker(Effect.void))
        const third = Effect.zipRight(Effect.repeatN(works, 49), fails(tolerant))
        expect((yield* during(third)).reports).toBeLessThanOrEqual(0)
        const hurried = yield* during(fails(undecided))
        expect(hurried.reports).toBeGreaterThan(0)
        expect(hurried.reports).toBeLessThanOrEqual(hurried.took / 50 + 1)
        yield* tolerant.breaker.disable
        expect((yield* during(fails(tolerant))).reports).toBeLessThanOrEqual(1)
      }),
    30_000
  )

  it.scopedLive("RC11: does what an operator wants in all processes, and tells where another was first", () =>
    Effect.gen(function*() {
      const where = fresh()
      const rarely = { reportEvery: "1 hour" } as const
      const members = yield* membersOf(2, where)
      const [a, b] = members
      const deaf = yield* member({ ...where, deaf: true }, {}, rarely)
      yield* a.breaker.forceOpen("1 minute")
      yield* all(members, "ForcedOpen")
      expect(b.told).toContain("ForcedOpen Shared")
      const error = yield* Effect.flip(b.breaker.withBreaker(Effect.void))
      expect(error.reason).toBe("ForcedOpen")
      expect(Duration.toMillis(Option.getOrThrow(error.retryAfter))).toBeGreaterThan(50_000)
      // One that has not heard of it does not undo it.
      expect(yield* deaf.breaker.state).toBe("Closed")
      yield* deaf.breaker.disable
      expect(yield* deaf.breaker.state).toBe("ForcedOpen")
      yield* wereTold([deaf], "the fleet did not take disable")
      yield* all(members, "ForcedOpen")
      yield* b.breaker.disable
      yield* all(members, "Disabled")
      yield* a.breaker.reset
      yield* all(members, "Closed")
      yield* a.breaker.forceOpen("100 millis")
      yield* b.is("ForcedOpen")
      yield* Effect.sleep(110)
      expect(yield* b.breaker.withBreaker(Effect.succeed(1))).toBe(1)
      const own = yield* member(where, {}, { operators: "local" })
      yield* own.breaker.forceOpen()
      yield* Effect.sleep(30)
      expect([yield* own.breaker.state, yield* a.breaker.state]).toEqual(["ForcedOpen", "Closed"])
    }))

  it.scopedLive("that only advises tells of the fleet and opens nobody", () =>
    Effect.gen(function*() {
      const where = fresh()
      const options = { openDuration: "200 millis" } as const
      const advisory = { mode: "advisory", reportEvery: "30 millis" } as const
      const [a, b, c] = yield* membersOf(3, where, options, advisory)
      yield* c.breaker.withBreaker(Effect.void)
      yield* Effect.all([a.trip, b.trip])
      yield* wereTold([c], "fleet Open")
      expect(yield* c.breaker.withBreaker(Effect.succeed(1))).toBe(1)
      yield* wereTold([c], "fleet Closed")
      expect(c.told).toEqual(["fleet Open", "fleet Closed"])
    }))

  it.scopedLive("shares the circuits that are named, and refuses what is no option", () =>
    Effect.gen(function*() {
      const shares = (options: RedisCircuitBreaker.Options) =>
        Effect.flatMap(inProcess(fresh(), options), (context) =>
          Effect.provide(
            Effect.forEach(["a", "b"], (name) =>
              Effect.map(
                Effect.flatMap(CircuitBreaker.make({ name }), ({ metrics }) => metrics),
                ({ shared }) => shared !== undefined
              )),
            context
          ))
      expect(yield* shares({ only: ["a"] })).toEqual([true, false])
      expect(yield* shares({ except: ["a"] })).toEqual([false, true])
      for (const options of [{ quorum: 0 }, { only: "payments" }, { mode: "any" }, { reportEvery: "0 millis" }]) {
        const exit = yield* Effect.exit(inProcess(fresh(), options as RedisCircuitBreaker.Options))
        const [[field, value] = []] = Object.entries(options)
        expect(String(exit)).toContain(`${field}`)
        expect(String(exit)).toContain(String(value))
      }
      const misplaced = inProcess(fresh(), { failureRate: 0.5 } as RedisCircuitBreaker.Options)
      const exit = yield* Effect.exit(misplaced)
      expect(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "no error").toContain(
        "has no option \"failureRate\", which is one of each circuit breaker: give it to its Tag, or its layer; there are: "
      )
    }))
})
