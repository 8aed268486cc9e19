import type { RateLimiterStore } from "@effect-resilience/core"
import { RedisConnection, RedisRateLimiterStore } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inject, vi } from "vitest"
import type { Pool } from "../src/internal/rate/leases.js"
import { Leases } from "../src/internal/rate/leases.js"
import { Plans } from "../src/internal/rate/plan.js"
import { Told as Decision } from "../src/internal/rate/told.js"
import { scale } from "./utils/scale.js"
import { Spied } from "./utils/spied.js"
import { Worker } from "./utils/worker.js"

const url = inject("redisUrl")
const run = randomUUID()
let made = 0

/** Refills by a token in a minute: what a test takes changes nothing. */
const stillOf = (limit: number): ReadonlyArray<RateLimiterStore.Rate> => [
  { limit, window: Duration.minutes(limit), burst: limit }
]
const still = stillOf(1000)
const request = (more: Partial<RateLimiterStore.Request> = {}): RateLimiterStore.Request => ({
  instance: "leases",
  key: "a",
  algorithm: "gcra",
  rates: still,
  cost: 1,
  mode: "all",
  maxWait: Duration.zero,
  ...more
})
const peek = request({ mode: "peek" })

const connect = (prefix = `${run}-${++made}:`) =>
  Effect.map(
    Effect.orDie(RedisConnection.make({
      server: { _tag: "Standalone", url: String(url) },
      prefix,
      commandTimeout: "10 seconds",
      socketTimeout: "10 seconds"
    })),
    (redis) => new Spied(redis)
  )

const open = (options: RedisRateLimiterStore.Options, prefix?: string) =>
  Effect.gen(function*() {
    const spied = yield* connect(prefix)
    const store = yield* spied.provide(RedisRateLimiterStore.make(options))
    // Looks without leases of its own.
    const plain = yield* spied.provide(RedisRateLimiterStore.make({ batching: false, deniedFor: 0 }))
    return { spied, store, left: Effect.map(plain.decide(peek), ({ remaining }) => remaining) }
  })

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** Asks until so much was leased that calls need no round trip. */
const warm = ({ spied, store }: { readonly spied: Spied; readonly store: RateLimiterStore.Service }) =>
  Effect.gen(function*() {
    let used = 0
    for (let local = 0; local < 5;) {
      if (used >= 900) throw new Error("nothing was leased")
      const before = spied.calls
      used += (yield* store.decide(request())).granted
      local = spied.calls === before ? local + 1 : 0
      yield* turn
    }
    return used
  })

describe.skipIf(url === undefined)("tokens that are leased", () => {
  const leases = { maxOvershoot: 0.1, heldFor: "1 hour", horizon: "1 second" } as const

  it.scopedLive("are charged when they are fetched, and used without a round trip", () =>
    Effect.gen(function*() {
      const { left, spied, store } = yield* open({ leases })
      const used = yield* warm({ spied, store })
      const held = 1000 - (yield* left) - used
      expect(held).toBeGreaterThan(0)
      expect(held).toBeLessThanOrEqual(100)
    }))

  it.scopedLive("RF6: go back when they are not used, and when the layer is released", () =>
    Effect.gen(function*() {
      const first = yield* open({ leases: { ...leases, heldFor: "20 millis" } })
      const used = yield* warm(first)
      let left = 0
      for (let i = 0; i < 200 && left !== 1000 - used; i++) {
        yield* Effect.sleep("10 millis")
        left = yield* first.left
      }
      expect(left).toBe(1000 - used)
      const scope = yield* Scope.make()
      const second = yield* open({}, `${run}-${++made}:`)
      const store = yield* second.spied.provide(RedisRateLimiterStore.make({ leases })).pipe(Scope.extend(scope))
      const taken = yield* warm({ spied: second.spied, store })
      expect(yield* second.left).toBeLessThan(1000 - taken)
      yield* Scope.close(scope, Exit.void)
      expect(yield* second.left).toBe(1000 - taken)
    }))

  it.scopedLive("RF6: go back when the layer is released while they are on their way here", () =>
    Effect.gen(function*() {
      const { left, spied } = yield* open({})
      const scope = yield* Scope.make()
      const store = yield* spied.provide(RedisRateLimiterStore.make({ leases })).pipe(Scope.extend(scope))
      let used = yield* warm({ spied, store })
      spied.hold()
      for (const before = spied.calls; spied.calls === before;) {
        used += (yield* store.decide(request())).granted
        yield* turn
      }
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* turn
      spied.release()
      yield* Fiber.join(closing)
      expect(yield* left).toBe(1000 - used)
    }))

  it.scopedLive("count as used: a reservation from a lease is used at once, and what was used is not given back", () =>
    Effect.gen(function*() {
      const { left, spied, store } = yield* open({ leases })
      let used = yield* warm({ spied, store })
      const before = spied.calls
      const reserve = request({ mode: "reserve" })
      // A lease may be on its way when it is denied first.
      for (let denied = 0; denied < 20 && used <= 1000;) {
        const decision = yield* store.decide(reserve)
        used += decision.granted
        if (decision.granted > 0) expect(yield* store.refund(reserve, decision)).toBe(false)
        else {
          denied++
          yield* Effect.sleep("2 millis")
        }
      }
      expect(used).toBe(1000)
      expect(yield* left).toBe(0)
      // Most of them were from leases.
      expect(spied.calls - before).toBeLessThan(500)
    }))

  it.scopedLive("are void when the key is reset or drained", () =>
    Effect.gen(function*() {
      const { left, spied, store } = yield* open({ leases })
      yield* warm({ spied, store })
      yield* store.reset(request())
      expect(yield* left).toBe(1000)
      const before = spied.calls
      yield* store.decide(request())
      expect(spied.calls).toBeGreaterThan(before)
      yield* warm({ spied, store })
      yield* store.drain(request())
      expect(yield* left).toBe(0)
      expect((yield* store.decide(request())).granted).toBe(0)
    }))

  it.scopedLive("are none of a limit whose part is less than two", () =>
    Effect.gen(function*() {
      const { spied, store } = yield* open({ leases: { ...leases, maxOvershoot: 0.0019 } })
      for (let i = 1; i <= 50; i++) {
        yield* store.decide(request())
        expect(spied.calls).toBe(i)
      }
    }))

  it.scopedLive("are an equal part for each of the processes that share them", () =>
    Effect.gen(function*() {
      const prefix = `${run}-${++made}:`
      const all = yield* Effect.forEach([1, 2, 3, 4], () =>
        open({ leases: { ...leases, horizon: "10 seconds" } }, prefix))
      for (const { spied } of all) {
        while ((yield* spied.redis.processes) < 4) {
          yield* Effect.sleep("20 millis")
        }
      }
      const used = yield* Effect.forEach(all, warm)
      const held = 1000 - (yield* (all[0] as (typeof all)[number]).left) - used.reduce((sum, one) =>
        sum + one, 0)
      expect(held).toBeGreaterThan(20)
      expect(held).toBeLessThanOrEqual(100)
    }), 20_000)
})

/** By how much the worst span of so many milliseconds is above what the rate allows in it and in the longest delivery. */
const excess = (grants: ReadonlyArray<number>, span: number, slowest: number, limit: number, burst: number): number => {
  let worst = -Infinity
  for (let from = 0, to = 0; to < grants.length; to++) {
    while ((grants[to] ?? 0) - (grants[from] ?? 0) > span) from++
    worst = Math.max(worst, to - from + 1 - burst - limit * (span + slowest) / 1000)
  }
  return worst
}

interface Told {
  readonly asked: number
  readonly grants: ReadonlyArray<number>
  readonly slowest: number
  readonly roundTrips: number
}

describe("what is fetched ahead", () => {
  const millis = (n: number) => 1000 * 60 + n

  /** So many calls of one key in each millisecond of two seconds, and a store that answers a millisecond later. */
  const play = (callsAt: (milli: number) => number, heldFor = 100) => {
    const asked: Array<{ readonly pool: Pool; readonly tokens: number; readonly at: number }> = []
    let now = 0
    const leases = new Leases({ maxOvershoot: 0.1, horizon: 50, heldFor, maxKeys: 10 }, {
      processes: () => 1,
      borrow: (pool, tokens) => asked.push({ pool, tokens, at: now }),
      giveBack: () => {}
    })
    const call = request({ rates: stillOf(100_000) })
    const plan = new Plans().of(call)
    const missed: Array<number> = []
    const fetched: Array<{ readonly tokens: number; readonly at: number }> = []
    for (let i = 0; i < 2000; i++) {
      now = millis(i)
      for (const { pool, tokens } of asked.splice(0)) {
        fetched.push({ tokens, at: i })
        const { limit, window } = plan.first
        const granted = new Decision(tokens, limit, window, 1000, 0, 0)
        leases.lent(pool, granted, now)
        expect(pool.tokens).toBeLessThanOrEqual(leases.cap(plan))
      }
      let misses = 0
      for (let n = callsAt(i); n > 0; n--) {
        if (leases.take(call, plan, now) === undefined) misses++
      }
      missed.push(misses)
      if (i % 100 === 0) leases.sweep(now)
    }
    const most = (from: number) => Math.max(...fetched.filter(({ at }) => at >= from).map(({ tokens }) => tokens))
    return { missed, most }
  }
  const steady = () => 2
  const bursts = (i: number) => i % 70 === 0 ? 400 : 0

  it("is as much as calls have needed of late", () => {
    const { missed, most } = play(steady)
    expect(missed.slice(1000).every((misses) => misses === 0)).toBe(true)
    // For fifty milliseconds.
    expect(most(0)).toBeLessThanOrEqual(100)
  })

  it("is more where calls come in bursts that their average does not foresee", () => {
    const { missed } = play(bursts, 1000)
    expect(missed.slice(0, 500).some((misses) => misses > 0)).toBe(true)
    expect(missed.slice(1000).every((misses) => misses === 0)).toBe(true)
  })

  it("is less again once it was not used", () => {
    const { most } = play((i) => i < 1000 ? bursts(i) : steady())
    expect(most(0)).toBeGreaterThan(300)
    // What is not used within heldFor goes back.
    expect(most(1500)).toBeLessThanOrEqual(400)
  })

  it.scopedLive("is counted once for a call that was asked about at once and in vain", () =>
    Effect.gen(function*() {
      const { store } = yield* open({ leases: {} })
      const taken = vi.spyOn(Leases.prototype, "take")
      yield* Effect.addFinalizer(() => Effect.sync(() => taken.mockRestore()))
      expect(store.decideAtOnce?.(request())).toBeUndefined()
      yield* store.decide(request())
      expect(taken).toHaveBeenCalledTimes(1)
      yield* store.decide(request())
      expect(taken).toHaveBeenCalledTimes(2)
    }))
})

describe.skipIf(url === undefined)("four processes that lease tokens of one key", () => {
  const limit = 2000
  const burst = 500
  const overshoot = 0.05

  it.scopedLive(
    "RF5: let through the rate and their part in any span, and lose what one holds when it is killed",
    () =>
      Effect.gen(function*() {
        const prefix = `${run}-${++made}:`
        const file = new URL("./workers/leases.ts", import.meta.url)
        const args = [String(url), prefix, String(limit), String(burst), String(overshoot)]
        const workers = yield* Effect.forEach([1, 2, 3, 4], () => Worker.start(file, ...args))
        for (const worker of workers) expect(yield* worker.next).toBe("ready")

        const grants: Array<number> = []
        let slowest = 0
        const millis = scale(500, 4000)
        const begin = performance.now()
        /** Round trips of the first of them. */
        let before = 0
        // Uneven and too much; quiet, so that they hold what they have; and all at once.
        for (const [pause, callers] of [[0, [8, 2, 1, 1]], [5, [1, 1, 1, 1]], [0, [16, 16, 16, 16]]] as const) {
          workers.forEach((worker, i) => worker.send({ callers: callers[i], pause, millis }))
          for (const worker of workers) {
            const told = (yield* worker.next) as Told
            if (worker === workers[0]) before = told.roundTrips
            grants.push(...told.grants)
            slowest = Math.max(slowest, told.slowest)
          }
        }
        const took = performance.now() - begin
        grants.sort((a, b) => a - b)
        for (const span of [1, 10, 100, 500]) {
          expect(excess(grants, span, slowest, limit, burst)).toBeLessThanOrEqual(overshoot * limit)
        }
        // They let through what there is: the bucket, and most of what came in the two phases with too many calls.
        expect(grants.length).toBeGreaterThan(burst + limit * 2 * millis / 1000 * 0.5)
        expect(grants.length).toBeLessThanOrEqual(burst + limit * took / 1000 + overshoot * limit)

        // A key that refills by one in a minute tells exactly what is gone.
        const [victim] = workers
        victim?.send({ callers: 1, pause: 0, millis: 200, key: "still" })
        const { grants: { length: used }, roundTrips } = (yield* (victim as Worker).next) as Told
        // Without leases each of its calls is a round trip; how many are spared depends on how busy the machine is.
        expect(roundTrips - before).toBeLessThan(used * 0.9)
        victim?.child.kill("SIGKILL")
        const spied = yield* connect(prefix)
        const plain = yield* spied.provide(RedisRateLimiterStore.make({ batching: false, deniedFor: 0 }))
        const { remaining } = yield* plain.decide(
          request({ instance: "workers", key: "still", rates: stillOf(limit), mode: "peek" })
        )
        const lost = limit - remaining - used
        expect(lost).toBeGreaterThanOrEqual(0)
        expect(lost).toBeLessThanOrEqual(overshoot * limit / 4)
      }),
    60_000
  )
})
