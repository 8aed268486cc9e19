import type { SharedCircuits } from "@effect-resilience/core"
import { CircuitBreaker } from "@effect-resilience/core"
import { RedisCircuitBreaker, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Context, Duration, Effect, Exit, Fiber, Layer, Option } from "effect"
import { inject } from "vitest"
import { Proxy } from "./utils/proxy.js"
import { canStart, Server } from "./utils/server.js"

const url = inject("redisUrl")

const fail = Effect.fail("down")

const until = (condition: Effect.Effect<boolean>, millis = 5000): Effect.Effect<void> =>
  Effect.suspend(() => {
    const end = performance.now() + millis
    const look: Effect.Effect<void> = Effect.flatMap(condition, (met) =>
      met
        ? Effect.void
        : performance.now() > end
        ? Effect.die(new Error("it did not come to that"))
        : Effect.zipRight(Effect.sleep(2), look))
    return look
  })

let runs = 0
const fresh = () => `cb${process.pid}-${runs++}:`

interface Where {
  readonly prefix: string
  readonly url?: string
  /** It hears no message. */
  readonly deaf?: boolean
  /** Nobody listens to its breaker. */
  readonly silent?: boolean
}

const deafened = Layer.effect(
  RedisConnection,
  Effect.map(
    RedisConnection,
    (redis): RedisConnection.Service => Object.create(redis, { subscribe: { value: () => Effect.void } })
  )
)

/** What one process of a fleet has: a connection and a layer of its own. */
const inProcess = (where: Where, options?: RedisCircuitBreaker.Options) => {
  const connection = RedisConnection.layer({
    server: { _tag: "Standalone", url: where.url ?? String(url) },
    prefix: where.prefix,
    commandTimeout: "300 millis"
  })
  return Layer.build(
    RedisCircuitBreaker.layer(options).pipe(
      Layer.provideMerge(where.deaf === true ? Layer.provide(deafened, connection) : connection)
    )
  )
}

/** A process with a breaker. */
const member = (
  where: Where,
  options: CircuitBreaker.Options = {},
  shared?: RedisCircuitBreaker.Options
) =>
  Effect.gen(function*() {
    const context: Context.Context<SharedCircuits | RedisConnection> = yield* inProcess(where, shared)
    const breaker = yield* Effect.provide(CircuitBreaker.make({ name: "payments", ...options }), context)
    const redis = Context.get(context, RedisConnection)
    const told: Array<string> = []
    const listen: typeof breaker.on = where.silent === true ? () => Effect.void : breaker.on
    yield* listen("*", (event) =>
      Effect.sync(() => {
        if (event._tag === "StateChanged") told.push(`${event.to} ${event.cause}`)
        if (event._tag === "FleetChanged") told.push(`fleet ${event.state}`)
        if (event._tag === "InternalError") told.push(`problem ${String(event.error)}`)
      }))
    yield* known(where, breaker, redis, `${where.prefix}${shared?.mode === "advisory" ? "ca" : "cb"}:`)
    return {
      breaker,
      redis,
      told,
      trip: Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 4),
      is: (state: CircuitBreaker.State) => until(Effect.map(breaker.state, (now) => now === state))
    }
  })

/** How many the server sends the messages of a fleet to. */
const hearersOf = (redis: RedisConnection.Service, channel: string) =>
  Effect.map(
    Effect.orDie(redis.command("pubsub", "numsub", channel)),
    (reply) => Number(Array.isArray(reply) ? reply[1] : 0)
  )

/** How many processes of a fleet hear its messages. */
const hearers = new Map<string, number>()

/** It has had the answer to its first question, and hears messages. */
const known = (
  { deaf, prefix }: Where,
  breaker: CircuitBreaker.Service,
  redis: RedisConnection.Service,
  channel: string
) =>
  Effect.gen(function*() {
    const expected = (hearers.get(prefix) ?? 0) + (deaf === true ? 0 : 1)
    hearers.set(prefix, expected)
    yield* until(Effect.map(hearersOf(redis, channel), (count) => count >= expected))
    yield* until(Effect.map(breaker.metrics, ({ shared }) => shared !== undefined))
  })

const all = <A extends { readonly is: (state: CircuitBreaker.State) => Effect.Effect<void> }>(
  members: ReadonlyArray<A>,
  state: CircuitBreaker.State
) => Effect.forEach(members, ({ is }) => is(state), { discard: true })

/** Calls of all get through again, whoever probes. */
const works = (members: ReadonlyArray<{ readonly breaker: CircuitBreaker.Service }>) =>
  until(Effect.map(
    Effect.forEach(members, ({ breaker }) => Effect.zip(Effect.exit(breaker.withBreaker(Effect.void)), breaker.state)),
    (all) => all.every(([exit, state]) => Exit.isSuccess(exit) && state === "Closed")
  ))

const scripts = (redis: RedisConnection.Service) =>
  Effect.map(redis.command("info", "commandstats"), (text) => {
    const count = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(text))?.[1] ?? 0)
    return count("evalsha") + count("eval") + count("publish")
  })

describe.skipIf(url === undefined)("a shared circuit breaker", () => {
  it.scopedLive("opens for all when two fail, tells truly for how long, and closes for all after its probes", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const options = { openDuration: "300 millis", halfOpenMaxCalls: 2, successThreshold: 2 } as const
      const members = yield* Effect.all([member(where, options), member(where, options), member(where, options)])
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
      yield* until(c.breaker.wouldAdmit)
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

  it.scopedLive("opens for all by calls of which no process has enough", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const options = { consecutiveFailures: false, minimumCalls: 20 } as const
      const shared = { reportEvery: "30 millis" } as const
      const members = yield* Effect.all([
        member(where, options, shared),
        member(where, options, shared),
        member(where, options, shared)
      ])
      yield* Effect.forEach(members, ({ breaker }) => Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 6))
      yield* all(members, "Open")
      for (const { told } of members) expect(told).toContain("Open Shared")
    }))

  it.scopedLive("opens a process that starts while it is open, and keeps the circuits of the keys apart", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
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
      yield* until(
        Effect.map(Effect.exit(c.withBreakerBy({ key: "x:{1}" })(Effect.void)), Exit.isFailure)
      )
      expect(yield* c.withBreakerBy({ key: "y" })(Effect.succeed(1))).toBe(1)
      expect((yield* c.metrics).open.map(({ key }) => key)).toEqual(["x:{1}"])
    }))

  it.scopedLive("RC5: ignores what a probe says whose lease is over", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const options = { openDuration: "100 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
      const shared = { probeLease: "100 millis" } as const
      const members = yield* Effect.all([member(where, options, shared), member(where, options, shared)])
      const [a, b] = members
      yield* Effect.all([a.trip, b.trip])
      yield* all(members, "Open")
      yield* until(a.breaker.wouldAdmit)
      const slow = yield* Effect.fork(a.breaker.withBreaker(Effect.sleep(500)))
      yield* Effect.sleep(150)
      const before = (yield* a.breaker.metrics).shared?.epoch ?? 0
      // The next probe fails: open again, under another epoch. The late success of the first closes nothing.
      yield* until(Effect.map(Effect.exit(b.breaker.withBreaker(fail)), (exit) => String(exit).includes("down")))
      yield* all(members, "Open")
      yield* Effect.flatMap(b.breaker.forceOpen("1 minute"), () => all(members, "ForcedOpen"))
      yield* Fiber.join(slow)
      yield* Effect.sleep(50)
      expect([yield* a.breaker.state, yield* b.breaker.state]).toEqual(["ForcedOpen", "ForcedOpen"])
      expect((yield* a.breaker.metrics).shared?.epoch).toBeGreaterThan(before)
    }))

  it.scopedLive("RC13: opens again for a probe that hangs, as a circuit that is alone", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const options = {
        openDuration: "300 millis",
        halfOpenMaxCalls: 1,
        successThreshold: 1,
        halfOpenTimeout: "200 millis"
      } as const
      const shared = { reportEvery: "20 millis" } as const
      const members = yield* Effect.all([member(where, options, shared), member(where, options, shared)])
      const [a, b] = members
      yield* Effect.all([a.trip, b.trip])
      yield* until(Effect.sync(() => members.every(({ told }) => told.includes("fleet Open"))))
      const began: Array<number> = []
      const hang = Effect.zipRight(Effect.sync(() => began.push(performance.now())), Effect.sleep("1 second"))
      yield* Effect.forEach(members, ({ breaker }) =>
        Effect.forkScoped(
          Effect.forever(
            Effect.zipRight(Effect.fork(Effect.ignore(breaker.withBreaker(hang))), Effect.sleep("5 millis"))
          )
        ))
      yield* until(Effect.sync(() => began.length >= 4))
      // From one probe to the next: the time that it may take, and the time that the circuit is open.
      const between = began.slice(1).map((time, i) => time - Number(began[i]))
      expect(Math.min(...between)).toBeGreaterThan(450)
    }))

  it.scopedLive("RC9: loses no lease, whenever a probe is interrupted", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const options = { openDuration: "50 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
      const members = yield* Effect.all([member(where, options), member(where, options)])
      const [a, b] = members
      yield* Effect.all([a.trip, b.trip])
      yield* all(members, "Open")
      yield* until(a.breaker.wouldAdmit)
      let begun = 0
      const out = Effect.orDie(a.redis.command("zcard", `${where.prefix}cb:{payments}:p`))
      const noneOut = Effect.map(out, (leases) => leases === 0)
      for (let n = 0; n < 150; n++) {
        const probe = yield* Effect.fork(
          a.breaker.withBreaker(Effect.zipRight(Effect.sync(() => begun++), Effect.never))
        )
        // Before the question, while it is asked, and after: the whole of a round trip and more.
        if (n % 3 === 0) yield* Effect.repeatN(Effect.yieldNow(), n % 20)
        else yield* Effect.sleep((n % 15) / 10)
        yield* Fiber.interrupt(probe)
        yield* until(noneOut)
      }
      expect(begun).toBeGreaterThan(5)
      expect(begun).toBeLessThan(150)
      // All leases are there: the other process gets the only one, long before one would be over.
      yield* until(Effect.map(Effect.exit(b.breaker.withBreaker(Effect.void)), Exit.isSuccess), 1000)
      yield* all(members, "Closed")
    }))

  it.scopedLive(
    "RC2: asks nobody about a closed circuit, and tells of all calls at once",
    () =>
      Effect.gen(function*() {
        if (!canStart) return
        const { url } = yield* Server.start()
        const { breaker, redis } = yield* member({ prefix: fresh(), url, silent: true }, {}, { reportEvery: "1 hour" })
        const before = yield* scripts(redis)
        const start = performance.now()
        yield* Effect.repeatN(breaker.withBreaker(Effect.void), 99_999)
        // A process says once a second that it is there: that is all.
        const beats = Math.ceil((performance.now() - start) / 900) + 1
        expect((yield* scripts(redis)) - before).toBeLessThanOrEqual(beats)

        const where = { prefix: fresh(), url, silent: true }
        const other = yield* member(where, {}, { reportEvery: "50 millis" })
        // A closed circuit that is reset begins another record.
        yield* other.breaker.reset
        yield* Effect.repeatN(other.breaker.withBreaker(Effect.void), 9_999)
        const votes = Effect.orDie(redis.command("hvals", `${where.prefix}cb:{payments}:w3000`))
        const sum = (all: RedisConnection.Reply) => Array.isArray(all) ? all.reduce((n, one) => n + Number(one), 0) : 0
        yield* until(Effect.map(votes, (all) => sum(all) === 10_000))
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
        const tolerant = yield* member({ prefix: fresh(), url, silent: true }, byRate, rarely)
        const patient = { ...byRate, minimumCalls: 1_000_000 } as const
        const undecided = yield* member({ prefix: fresh(), url, silent: true }, patient, rarely)
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

  it.scopedLive(
    "RC7: whose Redis is gone keeps its time and then probes by itself, and meets the fleet again",
    () =>
      Effect.gen(function*() {
        if (!canStart) return
        const server = yield* Server.start()
        const where = { prefix: fresh(), url: server.url }
        const options = { openDuration: "400 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
        const shared = { reportEvery: "50 millis" } as const
        const members = yield* Effect.all([
          member(where, options, shared),
          member(where, options, shared),
          member(where, options, shared)
        ])
        const [a, b, c] = members
        const began = performance.now()
        yield* Effect.all([a.trip, b.trip])
        yield* c.is("Open")
        yield* Effect.promise(() => server.kill())
        expect(Exit.isFailure(yield* Effect.exit(c.breaker.withBreaker(Effect.void)))).toBe(true)
        yield* until(Effect.map(Effect.exit(c.breaker.withBreaker(Effect.void)), Exit.isSuccess))
        const took = performance.now() - began
        expect(took).toBeGreaterThan(390)
        expect(took).toBeLessThan(400 + 300 + 300)
        yield* c.is("Closed")
        yield* until(Effect.sync(() => c.told.includes("fleet Unknown")))
        expect((yield* c.breaker.metrics).shared).toMatchObject({ state: "Unknown" })
        // It goes on alone.
        yield* c.trip
        yield* c.is("Open")
        yield* c.breaker.reset
        const alone = "Redis cannot be asked, so reset holds in this process alone"
        yield* until(Effect.sync(() => c.told.some((text) => text.includes(alone))))
        // And with the fleet, where there is one again: it remembers nothing, but two are still open and say so.
        yield* Effect.promise(() => server.start())
        yield* c.is("Open")
        yield* works(members)
      }),
    30_000
  )

  it.scopedLive("RC8: that Redis forgot closes nothing, and those that are open say so again", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const options = { openDuration: "300 millis", halfOpenMaxCalls: 1, successThreshold: 1 } as const
      const shared = { reportEvery: "20 millis" } as const
      const members = yield* Effect.all([
        member(where, options, shared),
        member(where, options, shared),
        member(where, options, shared)
      ])
      const [a, b, c] = members
      yield* Effect.all([a.trip, b.trip])
      yield* all(members, "Open")
      const { epoch = 0 } = (yield* c.breaker.metrics).shared ?? {}
      yield* c.redis.command("del", `${where.prefix}cb:{payments}:s`)
      // Two are open by themselves and say so again, to a fleet that begins with a later epoch than any before.
      yield* until(Effect.map(c.breaker.metrics, ({ shared }) => shared !== undefined && shared.epoch > epoch))
      yield* all(members, "Open")
      expect(c.told).not.toContain("Closed Shared")
      yield* Effect.sleep(310)
      yield* works(members)
    }))

  it.scopedLive("RC12: takes what an operator did long ago, and a fail-over brought back, for no operator's action", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const shared = { reportEvery: "20 millis" } as const
      const members = yield* Effect.all([member(where, {}, shared), member(where, {}, shared)])
      const [a, b] = members
      const key = `${where.prefix}cb:{payments}:s`
      yield* a.breaker.reset
      const before = (yield* Effect.orDie(a.redis.command("hgetall", key))) as ReadonlyArray<string> | object
      const old = Array.isArray(before) ? before.map(String) : Object.entries(before).flat().map(String)
      expect(old.length).toBe(16)
      const epochs = Effect.forEach(
        members,
        ({ breaker }) => Effect.map(breaker.metrics, ({ shared }) => shared?.epoch ?? 0)
      )
      /** The server has what it had then, and both have heard so. */
      const failOver = Effect.gen(function*() {
        const known = yield* epochs
        yield* Effect.orDie(a.redis.command("hset", key, ...old))
        yield* until(Effect.map(epochs, (now) => now.every((epoch, i) => epoch !== known[i])))
        yield* Effect.sleep(60)
      })
      yield* Effect.all([a.trip, b.trip])
      yield* until(Effect.sync(() => members.every(({ told }) => told.includes("fleet Open"))))
      yield* failOver
      expect([yield* a.breaker.state, yield* b.breaker.state]).toEqual(["Open", "Open"])
      for (const { told } of members) expect(told).not.toContain("Closed Shared")
      yield* b.breaker.disable
      yield* all(members, "Disabled")
      yield* failOver
      expect([yield* a.breaker.state, yield* b.breaker.state]).toEqual(["Disabled", "Disabled"])
      // What an operator does now counts.
      yield* a.breaker.reset
      yield* all(members, "Closed")
    }))

  it.scopedLive("RC6: that lost its messages asks as soon as it hears again", () =>
    Effect.gen(function*() {
      if (!canStart) return
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const where = { prefix: fresh(), url: server.url }
      const rarely = { reportEvery: "1 hour" } as const
      const [a, b, c] = yield* Effect.all([
        member({ ...where, deaf: true }, {}, rarely),
        member({ ...where, deaf: true }, {}, rarely),
        member({ ...where, url: proxy.url }, {}, rarely)
      ])
      // It can ask all the time, and hears nothing.
      proxy.refuses = true
      yield* a.redis.command("client", "kill", "type", "pubsub")
      yield* Effect.all([a.trip, b.trip])
      yield* until(Effect.sync(() => b.told.includes("fleet Open")))
      expect(c.told).toEqual([])
      expect(yield* c.redis.command("ping")).toBe("PONG")
      expect(yield* hearersOf(a.redis, `${where.prefix}cb:`)).toBe(0)
      proxy.refuses = false
      yield* until(Effect.map(hearersOf(a.redis, `${where.prefix}cb:`), (count) => count === 1))
      yield* c.is("Open")
      expect(c.told).toEqual(["fleet Open", "Open Shared"])
    }))

  it.scopedLive("RC11: does what an operator wants in all processes, and tells where another was first", () =>
    Effect.gen(function*() {
      const where = { prefix: fresh() }
      const rarely = { reportEvery: "1 hour" } as const
      const members = yield* Effect.all([member(where), member(where)])
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
      yield* until(Effect.sync(() => deaf.told.some((text) => text.includes("the fleet did not take disable"))))
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
      const where = { prefix: fresh() }
      const options = { openDuration: "200 millis" } as const
      const advisory = { mode: "advisory", reportEvery: "30 millis" } as const
      const [a, b, c] = yield* Effect.all([
        member(where, options, advisory),
        member(where, options, advisory),
        member(where, options, advisory)
      ])
      yield* c.breaker.withBreaker(Effect.void)
      yield* Effect.all([a.trip, b.trip])
      yield* until(Effect.sync(() => c.told.includes("fleet Open")))
      expect(yield* c.breaker.withBreaker(Effect.succeed(1))).toBe(1)
      yield* until(Effect.sync(() => c.told.includes("fleet Closed")))
      expect(c.told).toEqual(["fleet Open", "fleet Closed"])
    }))

  it.scopedLive("shares the circuits that are named, and refuses what is no option", () =>
    Effect.gen(function*() {
      const shares = (options: RedisCircuitBreaker.Options) =>
        Effect.flatMap(inProcess({ prefix: fresh() }, options), (context) =>
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
        const exit = yield* Effect.exit(inProcess({ prefix: fresh() }, options as RedisCircuitBreaker.Options))
        const [[field, value] = []] = Object.entries(options)
        expect(String(exit)).toContain(`${field}`)
        expect(String(exit)).toContain(String(value))
      }
      const misplaced = inProcess({ prefix: fresh() }, { failureRate: 0.5 } as RedisCircuitBreaker.Options)
      const exit = yield* Effect.exit(misplaced)
      expect(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "no error").toContain(
        "has no option \"failureRate\", which is one of each circuit breaker: give it to its Tag, or its layer; there are: "
      )
    }))
})
