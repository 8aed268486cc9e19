import type { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { keysOf } from "../src/internal/bulkhead/settle.js"
import { connect, hold, stateOf } from "./utils/bulkheads.js"
import { pad, turns } from "./utils/moments.js"
import { scale } from "./utils/scale.js"

const url = String(inject("redisUrl"))

const ways: Record<string, (bulkhead: Bulkhead.Service) => Effect.Effect<unknown, unknown>> = {
  "withPermit": (bulkhead) => bulkhead.withPermit(Effect.never),
  "withPermitsBy": (bulkhead) => bulkhead.withPermitsBy(2)(Effect.never),
  "acquire": (bulkhead) => Effect.scoped(Effect.zipRight(bulkhead.acquire, Effect.never))
}

describe.skipIf(inject("redisUrl") === undefined)("interrupted at every operation", () => {
  /** Where something was lost. A holder of all may let go while the victim waits. */
  const sweep = (
    use: (bulkhead: Bulkhead.Service) => Effect.Effect<unknown, unknown>,
    options: RedisBulkhead.Options
  ) =>
    Effect.gen(function*() {
      const redis = yield* connect(url)
      const leaks: Array<string> = []
      let runs = 0
      const budget = 12
      for (const contended of [false, true]) {
        for (let phase = 0; phase <= budget; phase += scale(3, 1)) {
          for (let steps = 0; steps <= 8 && leaks.length === 0; steps += scale(2, 1)) {
            yield* Effect.scoped(Effect.gen(function*() {
              const name = randomUUID()
              const make = RedisBulkhead.make({ name, maxConcurrent: 2, maxWait: "10 seconds" }, options)
              const [a, b] = yield* Effect.provideService(Effect.all([make, make]), RedisConnection, redis)
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
              runs++
              // Nothing is counted, and all of it can be had by another.
              const { active, waiting } = yield* a.metrics
              const taken = yield* Effect.exit(Effect.timeout(b.withPermitsBy(2)(Effect.void), "3 seconds"))
              if (active + waiting > 0 || Exit.isFailure(taken)) {
                leaks.push(`phase ${phase}, steps ${steps}${contended ? ", contended" : ""}`)
              }
            }))
          }
        }
      }
      return { runs, leaks }
    })

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
