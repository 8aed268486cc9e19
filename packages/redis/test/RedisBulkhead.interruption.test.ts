import type { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { keysOf } from "../src/internal/bulkhead/settle.js"
import { connect, eventually, hold, stateOf } from "./utils/bulkheads.js"
import { pad, stall, turns } from "./utils/moments.js"
import { scale } from "./utils/scale.js"

const url = String(inject("redisUrl"))

type Use = (bulkhead: Bulkhead.Service) => Effect.Effect<unknown, unknown>

const ways: Record<string, Use> = {
  "withPermit": (bulkhead) => bulkhead.withPermit(Effect.never),
  "withPermitsBy": (bulkhead) => bulkhead.withPermitsBy(2)(Effect.never),
  "acquire": (bulkhead) => Effect.scoped(Effect.zipRight(bulkhead.acquire, Effect.never))
}

const exitOf = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit)
    ? "success"
    : Exit.isInterrupted(exit)
    ? "interrupted"
    : Option.match(Cause.failureOption(exit.cause), {
      onNone: () => Cause.pretty(exit.cause),
      onSome: (error) => (error as { readonly reason: string }).reason
    })

const options = { maxConcurrent: 2, maxWait: "10 seconds" as const }

/** What is wrong when a call is over: something is counted, or cannot be had by another. */
const kept = (own: Bulkhead.Service, other: Bulkhead.Service) =>
  Effect.gen(function*() {
    const { active, running, waiting } = yield* own.metrics
    if (active + running + waiting > 0) return `${active} active, ${running} running, ${waiting} waiting`
    const all = yield* Effect.exit(Effect.timeout(other.withPermitsBy(2)(Effect.void), "3 seconds"))
    return Exit.isFailure(all) ? "another does not get all" : undefined
  })

/** What is wrong when all who used a bulkhead have closed: Redis counts something still. */
const leftInRedis = (redis: RedisConnection.Service, name: string) =>
  Effect.map(stateOf(redis, name), ({ holders, line, used }) =>
    used + holders.size + line.length === 0 ?
      undefined :
      `in Redis ${used} used, ${holders.size} holders, ${line.length} in line`)

/** Two bulkheads of one name, as two processes have them, and what is wrong when `story` is over and when they are closed. */
const inTwo = (
  redis: RedisConnection.Service,
  given: RedisBulkhead.Options,
  story: (own: Bulkhead.Service, other: Bulkhead.Service) => Effect.Effect<string | undefined, unknown, Scope.Scope>,
  own: RedisConnection.Service = redis
) =>
  Effect.gen(function*() {
    const name = randomUUID()
    const make = (connection: RedisConnection.Service) =>
      Effect.provideService(RedisBulkhead.make({ name, ...options }, given), RedisConnection, connection)
    const wrong = yield* Effect.scoped(Effect.flatMap(Effect.all([make(own), make(redis)]), ([a, b]) => story(a, b)))
    return wrong ?? (yield* leftInRedis(redis, name))
  })

describe.skipIf(inject("redisUrl") === undefined)("interrupted at every operation", () => {
  /** Where something was lost. A holder of all may let go while the victim waits. */
  const sweep = (use: Use, given: RedisBulkhead.Options) =>
    Effect.gen(function*() {
      const redis = yield* connect(url)
      const leaks: Array<string> = []
      let runs = 0
      const budget = 12
      for (const contended of [false, true]) {
        for (let phase = 0; phase <= budget; phase += scale(3, 1)) {
          for (let steps = 0; steps <= 8 && leaks.length === 0; steps += scale(2, 1)) {
            const wrong = yield* inTwo(redis, given, (a, b) =>
              Effect.gen(function*() {
                const held = contended ? yield* hold(b, 2) : undefined
                const victim = yield* Effect.fork(
                  Effect.withMaxOpsBeforeYield(Effect.zipRight(pad(phase), use(a)), budget)
                )
                if (held !== undefined) {
                  yield* turns(3)
                  yield* Effect.fork(held.end)
                }
                yield* turns(steps)
                yield* Fiber.interrupt(victim)
                return yield* kept(a, b)
              }))
            runs++
            if (wrong !== undefined) {
              leaks.push(`phase ${phase}, steps ${steps}${contended ? ", contended" : ""}: ${wrong}`)
            }
          }
        }
      }
      return { runs, leaks }
    })

  it.scopedLive("RB3: a call that gives back keeps no permit", () =>
    Effect.gen(function*() {
      const { leaks, runs } = yield* sweep((bulkhead) => bulkhead.withPermit(turns(2)), {})
      expect(runs).toBeGreaterThan(40)
      expect(leaks).toEqual([])
    }), 60_000)

  for (const [way, use] of Object.entries(ways)) {
    it.scopedLive(`RB3: ${way} keeps nothing while Redis is asked`, () =>
      Effect.gen(function*() {
        const redis = yield* connect(url)
        for (const first of ["the one that runs", "the one that waits"]) {
          for (let steps = 0; steps <= scale(3, 8); steps++) {
            const answers = Effect.unsafeMakeLatch(true)
            const held: RedisConnection.Service = Object.assign(Object.create(redis) as RedisConnection.Service, {
              run: (...call: Parameters<RedisConnection.Service["run"]>) =>
                Effect.zipLeft(redis.run(...call), answers.await)
            })
            const story = (a: Bulkhead.Service, b: Bulkhead.Service) =>
              Effect.gen(function*() {
                const running = yield* Effect.fork(use(a))
                yield* eventually("it runs", Effect.map(a.metrics, ({ active }) => active > 0))
                yield* answers.close
                // It has to ask for more, and goes on to hold what it has.
                const waiting = yield* Effect.fork(use(a))
                yield* turns(2)
                const [one, two] = first === "the one that runs" ? [running, waiting] : [waiting, running]
                yield* Fiber.interruptFork(one)
                yield* turns(steps)
                yield* Fiber.interrupt(two)
                yield* answers.open
                yield* Fiber.await(one)
                return yield* kept(a, b)
              })
            expect([first, steps, yield* inTwo(redis, {}, story, held)]).toEqual([first, steps, undefined])
          }
        }
      }), 30_000)

    it.scopedLive(`RB3: ${way} keeps nothing when the lease is lost at the same time`, () =>
      Effect.gen(function*() {
        const redis = yield* connect(url)
        const exits = new Set<string>()
        for (let steps = 0; steps <= scale(5, 20); steps++) {
          const story = (a: Bulkhead.Service, b: Bulkhead.Service) =>
            Effect.gen(function*() {
              const victim = yield* Effect.fork(use(a))
              yield* eventually("it runs", Effect.map(a.metrics, ({ active }) => active > 0))
              yield* stall(210)
              yield* turns(steps)
              yield* Fiber.interruptFork(victim)
              exits.add(exitOf(yield* Fiber.await(victim)))
              return yield* kept(a, b)
            })
          expect([steps, yield* inTwo(redis, { lease: 200 }, story)]).toEqual([steps, undefined])
        }
        expect([...exits].sort()).toEqual(way === "acquire" ? ["interrupted"] : ["LeaseLost", "interrupted"])
      }), 30_000)
  }

  it.scopedLive(
    "RB3: a call that waits keeps no place when the layer closes at the same time",
    () =>
      Effect.gen(function*() {
        const redis = yield* connect(url)
        const exits = new Set<string>()
        for (const first of ["the call", "the layer"]) {
          for (let steps = 0; steps <= scale(5, 20); steps++) {
            const name = randomUUID()
            const make = Effect.provideService(RedisBulkhead.make({ name, ...options }), RedisConnection, redis)
            const other = yield* Scope.make()
            const held = yield* hold(yield* Scope.extend(make, other), 2)
            const own = yield* Scope.make()
            const close = Scope.close(own, Exit.void)
            const victim = yield* Effect.fork((yield* Scope.extend(make, own)).withPermit(Effect.never))
            yield* turns(3)
            const [one, two] = first === "the call"
              ? [Fiber.interrupt(victim), close]
              : [close, Fiber.interrupt(victim)]
            const ending = yield* Effect.fork(one)
            yield* turns(steps)
            yield* Effect.zipRight(two, Fiber.join(ending))
            exits.add(exitOf(yield* Fiber.await(victim)))
            const { line, used } = yield* stateOf(redis, name)
            expect([first, steps, used, line.length]).toEqual([first, steps, 2, 0])
            yield* held.end
            yield* Scope.close(other, Exit.void)
            expect([first, steps, yield* leftInRedis(redis, name)]).toEqual([first, steps, undefined])
          }
        }
        expect([...exits].sort()).toEqual(["StoreUnavailable", "interrupted"])
      }),
    30_000
  )

  for (const onLeaseLost of ["interrupt", "report"] as const) {
    for (const [way, use] of Object.entries(ways)) {
      it.scopedLive(`RB3: ${way} keeps no permit and no place in line (${onLeaseLost})`, () =>
        Effect.gen(function*() {
          const { leaks, runs } = yield* sweep(use, { onLeaseLost })
          expect(runs).toBeGreaterThan(40)
          expect(leaks).toEqual([])
        }), 60_000)
    }
  }

  it.scopedLive("control: the sweep catches a permit that is kept", () =>
    Effect.gen(function*() {
      const { leaks } = yield* sweep((bulkhead) => Effect.forkDaemon(bulkhead.withPermit(Effect.never)), {})
      expect(leaks.length).toBeGreaterThan(0)
    }), 60_000)

  it.scopedLive("RB3: a layer that closes at any moment leaves nothing behind", () =>
    Effect.gen(function*() {
      const redis = yield* connect(url)
      for (let steps = 0; steps <= scale(40, 200); steps++) {
        const name = randomUUID()
        const scope = yield* Scope.make()
        const bulkhead = yield* RedisBulkhead.make({ name, maxConcurrent: 2 }).pipe(
          Effect.provideService(RedisConnection, redis),
          Scope.extend(scope)
        )
        const calls = yield* Effect.fork(Effect.exit(bulkhead.withPermit(Effect.void)))
        yield* turns(steps % 10)
        yield* Effect.yieldNow()
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.interrupt(calls)
        const { holders, line, used } = yield* stateOf(redis, name)
        expect([steps, used, holders.size, line.length]).toEqual([steps, 0, 0, 0])
      }
    }), 30_000)

  it.scopedLive("a call that cannot be interrupted keeps its answer, and one that was interrupted by its caller its exit", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* connect(url)
      const bulkhead = yield* RedisBulkhead.make({ name, maxConcurrent: 3 }, { lease: 300 }).pipe(
        Effect.provideService(RedisConnection, redis)
      )
      const gate = yield* Deferred.make<string>()
      const stubborn = yield* Effect.fork(Effect.uninterruptible(bulkhead.withPermit(Deferred.await(gate))))
      const events: Array<string> = []
      const caller = yield* Effect.fork(
        bulkhead.withPermit(Effect.onInterrupt(Effect.never, () => Effect.sync(() => events.push("cleaned up"))))
      )
      const lost = yield* hold(bulkhead)
      yield* Fiber.interrupt(caller)
      expect(events).toEqual(["cleaned up"])
      expect(Exit.isInterrupted(yield* Fiber.await(caller))).toBe(true)
      // Somebody else has all of them, and the server knows nothing of ours.
      const { keys } = keysOf(redis.prefix, name)
      yield* redis.command("hset", keys[1]!, "#used", 3)
      yield* redis.command("hset", keys[1]!, "other", "3 1 1 1")
      yield* redis.command("zadd", keys[0]!, Date.now() * 1000 + 60_000_000, "other")
      for (const id of (yield* stateOf(redis, name)).holders.keys()) {
        if (id !== "other") yield* redis.command("hdel", keys[1]!, id)
      }
      expect(yield* Effect.flip(Fiber.join(lost.fiber))).toMatchObject({ reason: "LeaseLost" })
      yield* Deferred.succeed(gate, "answer")
      expect(yield* Fiber.join(stubborn)).toBe("answer")
      expect((yield* bulkhead.metrics).active).toBe(0)
    }))
})
