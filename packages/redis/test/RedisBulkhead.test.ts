import { Bulkhead, RateLimiter } from "@effect-resilience/core"
import { RedisBulkhead, RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Deferred, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { ask } from "./utils/ask.js"
import { bulkheadOf, connect, eventually, hold, stateOf } from "./utils/bulkheads.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"

const url = String(inject("redisUrl"))

describe.skipIf(inject("redisUrl") === undefined)("RedisBulkhead", () => {
  it.scopedLive("a tag's program is shared by its layer alone", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      class Reports extends Bulkhead.Tag<Reports>()(name, { maxConcurrent: 1, maxQueued: 0 }) {}
      const program = Effect.succeed("report").pipe(Reports.withPermit)
      const layer = () =>
        RedisBulkhead.layer(Reports).pipe(
          Layer.provide(RedisConnection.layer({ server: { _tag: "Standalone", url } }))
        )
      const first = yield* Layer.build(layer())
      const second = yield* Layer.build(layer())
      expect(yield* Effect.provide(program, first)).toBe("report")
      const gate = yield* Deferred.make<void>()
      const running = yield* Effect.fork(Effect.provide(Reports.withPermit(Deferred.await(gate)), first))
      yield* eventually("it runs", Effect.map(Effect.provide(Reports.metrics, first), ({ active }) => active === 1))
      const refused = yield* Effect.flip(Effect.provide(program, second))
      expect(refused).toMatchObject({ _tag: "BulkheadFullError", instance: name, reason: "QueueFull" })
      yield* Deferred.succeed(gate, void 0)
      yield* Fiber.join(running)
      // Nobody waits for it any more: it is given back when the other asks for the second time.
      yield* eventually("the other gets it", Effect.isSuccess(Effect.provide(program, second)))
    }))

  it.scopedLive("never more than maxConcurrent, and who waits is woken", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const [a, b] = [
        yield* bulkheadOf(url, { name, maxConcurrent: 2 }),
        yield* bulkheadOf(url, { name, maxConcurrent: 2 })
      ]
      const one = yield* hold(a)
      const two = yield* hold(a)
      const waiting = yield* Effect.fork(hold(b))
      yield* eventually("it waits", Effect.map(b.metrics, ({ waiting }) => waiting === 1))
      yield* Effect.sleep("30 millis")
      expect((yield* b.metrics).waiting).toBe(1)
      const start = performance.now()
      yield* one.end
      const three = yield* Fiber.join(waiting)
      expect(performance.now() - start).toBeLessThan(500)
      expect((yield* a.metrics).held! + (yield* b.metrics).held!).toBeLessThanOrEqual(2)
      yield* two.end
      yield* three.end
    }))

  it.scopedLive("who asks for more than there is in all is refused; for more than the process has, it waits", () =>
    Effect.gen(function*() {
      const bulkhead = yield* bulkheadOf(url, { name: randomUUID(), maxConcurrent: 3 })
      expect(yield* Effect.flip(bulkhead.withPermitsBy(4)(Effect.void))).toMatchObject({ reason: "TooManyPermits" })
      expect((yield* bulkhead.metrics).held).toBe(0)
      yield* bulkhead.withPermitsBy(3)(Effect.void)
      expect((yield* bulkhead.metrics).held).toBe(3)
    }))

  it.scopedLive("without a queue, a call gets what is free elsewhere, and is refused where nothing is", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 1, maxQueued: 0, maxWait: 0 }
      const [a, b] = [yield* bulkheadOf(url, options), yield* bulkheadOf(url, options)]
      const one = yield* hold(a)
      expect(yield* Effect.flip(b.withPermit(Effect.void))).toMatchObject({ reason: "QueueFull" })
      expect(yield* Effect.flip(a.withPermit(Effect.void))).toMatchObject({ reason: "QueueFull" })
      yield* one.end
      yield* eventually("b is let in", Effect.isSuccess(b.withPermit(Effect.void)))
    }))

  it.scopedLive("RB7: two that hold half each and need more than half are both served", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 8, maxQueued: 100, maxWait: "10 seconds" as const }
      const [a, b] = [yield* bulkheadOf(url, options), yield* bulkheadOf(url, options)]
      const halves = [...(yield* Effect.all([hold(a, 4), hold(b, 4)]))]
      const served = yield* Effect.fork(Effect.all(
        [a, b, a, b].map((bulkhead) => bulkhead.withPermitsBy(5)(Effect.sleep("5 millis"))),
        { concurrency: "unbounded" }
      ))
      yield* eventually("they wait", Effect.map(a.metrics, ({ waiting }) => waiting === 2))
      for (const half of halves) yield* half.end
      yield* Fiber.join(served).pipe(Effect.timeoutFail({ duration: "5 seconds", onTimeout: () => "they are stuck" }))
    }))

  it.scopedLive("RB8: a process that wants all leaves the others their part, and a call for many gets through", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 4, maxQueued: 1000, maxWait: "10 seconds" as const }
      const hungry = yield* bulkheadOf(url, options)
      yield* Effect.forkScoped(Effect.forEach(
        Array.from({ length: 50 }),
        () => Effect.forever(hungry.withPermit(Effect.sleep("5 millis"))),
        { concurrency: "unbounded" }
      ))
      yield* eventually("it has all", Effect.map(hungry.metrics, ({ active }) => active === 4))
      const others = yield* Effect.forEach([1, 2, 3], () => bulkheadOf(url, options))
      const waits = yield* Effect.forEach(
        others,
        (other, i) =>
          Effect.forEach(Array.from({ length: 10 }), () => {
            const since = performance.now()
            return other.withPermitsBy(i + 1)(Effect.sync(() => performance.now() - since))
          }),
        { concurrency: "unbounded" }
      )
      // A turn of each process, 20 ms, and a call of 5 ms: what is above that is this machine.
      expect(Math.max(...waits.flat())).toBeLessThan(1500)
      const since = performance.now()
      for (const other of others) yield* other.withPermitsBy(4)(Effect.void)
      expect(performance.now() - since).toBeLessThan(3000)
    }))

  it.scopedLive("what a process does not use it gives back: at once where others wait, and else after a second", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 4 }
      const [a, b] = [yield* bulkheadOf(url, options), yield* bulkheadOf(url, options)]
      const redis = yield* connect(url)
      for (const held of yield* Effect.all(Array.from({ length: 4 }, () => hold(a)))) yield* held.end
      expect((yield* a.metrics).held).toBe(4)
      expect((yield* stateOf(redis, name)).used).toBe(4)
      const start = performance.now()
      yield* b.withPermitsBy(3)(Effect.void)
      expect(performance.now() - start).toBeLessThan(500)
      yield* eventually(
        "nobody holds anything",
        Effect.map(
          stateOf(redis, name),
          ({ ends, holders, line, used }) => used + holders.size + line.length + ends.size === 0
        )
      )
      expect(yield* Effect.all([a.available, b.available])).toEqual([0, 0])
    }))

  it.scopedLive("where nobody waits, what is not used is given back after one to two seconds", () =>
    Effect.gen(function*() {
      const times = yield* Effect.forEach(Array.from({ length: 8 }), (_, i) =>
        Effect.gen(function*() {
          const bulkhead = yield* bulkheadOf(url, { name: randomUUID(), maxConcurrent: 4 })
          const held = yield* hold(bulkhead, 2)
          yield* Effect.sleep(i * 100)
          yield* held.end
          const since = performance.now()
          yield* eventually("it holds nothing", Effect.map(bulkhead.metrics, ({ held }) => held === 0))
          return performance.now() - since
        }), { concurrency: "unbounded" })
      expect(Math.min(...times)).toBeGreaterThan(700)
      expect(Math.max(...times)).toBeLessThan(2400)
    }))

  it.scopedLive("an operator's limit is that of all processes", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 4 }
      const [a, b] = [yield* bulkheadOf(url, options), yield* bulkheadOf(url, options)]
      const events = yield* b.subscribe
      const held = yield* Effect.all([hold(a), hold(a), hold(b), hold(b)])
      yield* a.resize(1)
      yield* eventually("b hears of it", Effect.map(b.metrics, ({ limit }) => limit === 1))
      expect(yield* Effect.flip(b.withPermitsBy(2)(Effect.void))).toMatchObject({ reason: "TooManyPermits" })
      for (const one of held) yield* one.end
      expect((yield* events.takeAll).length).toBeGreaterThan(0)
      const total = Effect.zipWith(a.metrics, b.metrics, (a, b) => a.held! + b.held!)
      yield* eventually("there is one in all", Effect.map(total, (total) => total <= 1))
      yield* b.resize(6)
      yield* b.withPermitsBy(6)(Effect.void)
    }))

  it.scopedLive("a layer that closes gives back what is free, and leaves what runs to its lease", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* connect(url)
      const scope = yield* Scope.make()
      const a = yield* Scope.extend(bulkheadOf(url, { name, maxConcurrent: 3 }), scope)
      const kept = yield* hold(a)
      yield* (yield* hold(a, 2)).end
      expect((yield* stateOf(redis, name)).used).toBe(3)
      yield* Scope.close(scope, Exit.void)
      expect((yield* stateOf(redis, name)).used).toBe(1)
      yield* kept.end
    }))

  it.scopedLive("RB14: a layer that closes turns away who waits for it, and who comes later", () =>
    Effect.gen(function*() {
      const options = { name: randomUUID(), maxConcurrent: 1, maxWait: Infinity }
      const scope = yield* Scope.make()
      const bulkhead = yield* Scope.extend(bulkheadOf(url, options), scope)
      const kept = yield* hold(bulkhead)
      const call = bulkhead.withPermit(Effect.void).pipe(
        Effect.timeoutFail({ duration: "2 seconds", onTimeout: () => new Error("it waits") }),
        Effect.flip
      )
      const waiting = yield* Effect.fork(call)
      yield* eventually("it waits", Effect.map(bulkhead.metrics, ({ waiting }) => waiting === 1))
      yield* Scope.close(scope, Exit.void)
      expect(yield* Fiber.join(waiting)).toMatchObject({ reason: "StoreUnavailable" })
      expect(yield* kept.end).toMatchObject({ _tag: "Success" })
      expect(yield* call).toMatchObject({ reason: "StoreUnavailable" })
    }))

  it.scopedLive("fences grow from one holder to the next, and are read by calls alone", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 1 }
      const [a, b] = yield* Effect.all([
        bulkheadOf(url, options, { fences: true }),
        bulkheadOf(url, options, { fences: true, onLeaseLost: "report" })
      ])
      const fences: Array<number> = []
      for (let i = 0; i < 10; i++) {
        fences.push(Option.getOrThrow(yield* (i % 2 === 0 ? a : b).withPermit(RedisBulkhead.fence)))
      }
      expect(fences).toEqual([...new Set(fences)].sort((x, y) => x - y))
      expect(yield* RedisBulkhead.fence).toEqual(Option.none())
      const unfenced = yield* bulkheadOf(url, { name: randomUUID() })
      expect(yield* unfenced.withPermit(RedisBulkhead.fence)).toEqual(Option.none())
    }))

  it.scopedLive("a call keeps its error, its defects and what it did to its FiberRefs", () =>
    Effect.gen(function*() {
      const bulkhead = yield* bulkheadOf(url, { name: randomUUID() })
      expect(yield* Effect.flip(bulkhead.withPermit(Effect.fail("mine")))).toBe("mine")
      expect(yield* Effect.exit(bulkhead.withPermit(Effect.die("bug")))).toEqual(Exit.die("bug"))
      const annotations = Effect.zipRight(
        bulkhead.withPermit(Effect.void),
        bulkhead.withPermit(Effect.interrupt)
      )
      expect(Exit.isInterrupted(yield* Effect.exit(annotations))).toBe(true)
      expect((yield* bulkhead.metrics).active).toBe(0)
    }))

  it.scopedLive("options from Config, and bad ones fail with a ConfigError", () =>
    Effect.gen(function*() {
      class Imports extends Bulkhead.Tag<Imports>()(randomUUID(), { maxConcurrent: 1 }) {}
      const redis = RedisConnection.layer({ server: { _tag: "Standalone", url } })
      const build = (lease: string) =>
        Layer.build(RedisBulkhead.layerConfig(Imports, { lease: Config.duration("LEASE"), strict: false })).pipe(
          Effect.provide(redis),
          Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["LEASE", lease]])))
        )
      yield* build("5 seconds")
      expect(String(yield* Effect.flip(build("5 millis")))).toContain("lease must be a duration of at least 100 ms")
      const misplaced = RedisBulkhead.layerConfig(Imports, { maxConcurrent: Config.succeed(5) } as never)
      expect(String(yield* Effect.flip(Effect.provide(Layer.build(misplaced), redis)))).toContain(
        "has no option \"maxConcurrent\", which is one of the bulkhead itself: give it to its Tag"
      )
    }))

  it.scopedLive("a bulkhead of other options, and one of the same tag that is not shared", () =>
    Effect.gen(function*() {
      class Exports extends Bulkhead.Tag<Exports>()(randomUUID(), { maxConcurrent: 1 }) {}
      const redis = RedisConnection.layer({ server: { _tag: "Standalone", url } })
      const shared = yield* Layer.build(Layer.provide(RedisBulkhead.shared(Exports.layer({ maxConcurrent: 5 })), redis))
      expect(yield* Effect.provide(Exports.available, shared)).toBe(0)
      yield* Effect.provide(Exports.withPermitsBy(5)(Effect.void), shared)
      const own = yield* Layer.build(Exports.Live)
      expect(yield* Effect.provide(Exports.available, own)).toBe(1)
    }))

  it.scopedLive("RB13: a layer in which nothing can be shared dies, and does not run unshared", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      class Keyed extends Bulkhead.Keyed<Keyed>()(name, { maxConcurrent: 1 }) {}
      class Other extends Bulkhead.Tag<Other>()(name, { maxConcurrent: 1 }) {}
      const redis = RedisConnection.layer({ server: { _tag: "Standalone", url } })
      const built = (layer: Layer.Layer<never, never, RedisConnection>) =>
        Effect.map(
          Effect.exit(Layer.build(Layer.provide(layer, redis))),
          (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "no error"
        )
      expect(yield* built(Layer.discard(RedisBulkhead.shared(Keyed.Live)))).toContain(
        `Bulkhead "${name}": a keyed bulkhead shares no permits with other processes`
      )
      expect(yield* built(Layer.discard(RedisBulkhead.shared(Other.Live)))).toBe("no error")
      const existing = Layer.succeed(Other, yield* Bulkhead.make({ name }))
      for (const layer of [existing, Other.layerNoop, Layer.merge(RateLimiter.Live, existing), Layer.empty]) {
        expect(yield* built(Layer.discard(RedisBulkhead.shared<never, never, never>(layer)))).toContain(
          "RedisBulkhead \"shared\": the layer must build a bulkhead"
        )
      }
      expect(yield* built(Layer.discard(RedisBulkhead.shared(existing)))).toContain(
        `but builds @effect-resilience/Bulkhead/${name}`
      )
      expect(yield* built(Layer.discard(RedisBulkhead.shared(Layer.merge(RateLimiter.Live, Other.Live))))).toBe(
        "no error"
      )
    }))

  it.scopedLive("bad options die by name", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<readonly [RedisBulkhead.Options, string]> = [
        [{ lease: 99 }, "lease must be a duration of at least 100 ms"],
        [{ lease: NaN }, "lease must be a duration"],
        [{ onStoreError: "maybe" as never }, "onStoreError must be one of"],
        [{ onLeaseLost: "no" as never }, "onLeaseLost must be one of"],
        [{ strict: 1 as never }, "strict must be true or false"],
        [{ fences: 1 as never }, "fences must be true or false"],
        [{ leese: 1 } as never, "has no option \"leese\"; there are: lease, "],
        [
          { maxConcurrent: 5 } as never,
          "has no option \"maxConcurrent\", which is one of the bulkhead itself: give it to its Tag, or share " +
          "another layer of it, RedisBulkhead.shared(Reports.layer({ maxConcurrent })); there are: lease, "
        ]
      ]
      for (const [options, text] of bad) {
        const exit = yield* Effect.exit(Effect.scoped(bulkheadOf(url, { name: "bad" }, options)))
        const message = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "no error"
        expect(message).toContain("RedisBulkhead \"bad\"")
        expect(message).toContain(text)
      }
    }))
})

describe.skipIf(!canStart)("RedisBulkhead by a server of its own", () => {
  it.scopedLive("on a cluster it is the same", () =>
    Effect.gen(function*() {
      const server = yield* Server.start(["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"])
      const tell = (...command: ReadonlyArray<string>) => Effect.promise(() => ask(server.port, "cluster", ...command))
      yield* tell("addslots", ...Array.from({ length: 16_384 }, (_, slot) => String(slot)))
      yield* eventually("it is up", Effect.map(tell("info"), (text) => String(text).includes("cluster_state:ok")))
      const cluster = {
        server: { _tag: "Cluster", nodes: [{ host: "127.0.0.1", port: server.port }] },
        connectTimeout: "5 seconds"
      } as const
      const options = { name: "b", maxConcurrent: 2, maxWait: "5 seconds" as const }
      const make = bulkheadOf(server.url, options, {}, cluster)
      const [a, b] = [yield* make, yield* make]
      const held = yield* hold(a, 2)
      const waiting = yield* Effect.fork(b.withPermitsBy(2)(Effect.sync(() => performance.now())))
      yield* eventually("it waits", Effect.map(b.metrics, ({ waiting }) => waiting === 1))
      yield* Effect.sleep("50 millis")
      const since = performance.now()
      yield* held.end
      // By a message: whoever asks by itself asks once a second.
      expect((yield* Fiber.join(waiting)) - since).toBeLessThan(500)
    }))

  it.scopedLive("RB6: a permit under load takes hardly a round trip", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url)
      const bulkheads = yield* Effect.all(Array.from({ length: 2 }, () =>
        bulkheadOf(server.url, { name: "load", maxConcurrent: 10, maxQueued: 1000, maxWait: "10 seconds" })))
      const count = Effect.map(redis.command("info", "commandstats"), (text) =>
        Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(text))?.[1] ?? 0))
      const run = Effect.forEach(
        bulkheads,
        (bulkhead) =>
          Effect.forEach(Array.from({ length: scale(2000, 20_000) }), () =>
            bulkhead.withPermit(Effect.sleep("1 millis")), {
            concurrency: 64,
            discard: true
          }),
        { concurrency: "unbounded", discard: true }
      )
      yield* run
      const before = yield* count
      yield* run
      expect(((yield* count) - before) / (2 * scale(2000, 20_000))).toBeLessThan(0.02)
    }))
})
