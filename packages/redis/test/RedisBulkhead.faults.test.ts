import type { Bulkhead, BulkheadFullError } from "@effect-resilience/core"
import type { RedisBulkhead } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Metric } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { bulkheadOf, connect, eventually, forget, hold, stateOf } from "./utils/bulkheads.js"
import { canStart, Server } from "./utils/server.js"

const url = String(inject("redisUrl"))
const reasonOf = (call: Effect.Effect<unknown, BulkheadFullError>) =>
  Effect.map(Effect.flip(call), (error) => error.reason)

/** So many are let in at once. */
const admits = (bulkhead: Bulkhead.Service, tries = 12) =>
  Effect.gen(function*() {
    let running = 0
    const calls = yield* Effect.forEach(Array.from({ length: tries }), () =>
      Effect.fork(Effect.either(bulkhead.withPermit(Effect.zipRight(
        Effect.sync(() =>
          running++
        ),
        Effect.never
      )))))
    yield* Effect.sleep("20 millis")
    yield* Fiber.interruptAll(calls)
    return running
  })

const lostBy = (name: string) =>
  Effect.map(
    Metric.snapshot,
    (pairs) =>
      pairs.flatMap(({ metricKey, metricState }) =>
        metricKey.name === "resilience.bulkhead.leases.lost" && metricKey.tags.some(({ value }) => value === name)
          ? [(metricState as unknown as { readonly count: number }).count]
          : []
      )
  )

describe.skipIf(!canStart)("RedisBulkhead without Redis", () => {
  const policies: ReadonlyArray<readonly [RedisBulkhead.Options["onStoreError"], number, string]> = [
    ["fail", 0, "StoreUnavailable"],
    ["closed", 0, "WaitExceeded"],
    ["open", 6, "QueueFull"],
    ["local", 3, "QueueFull"]
  ]
  it.scopedLive(
    "RB9: each policy, while it is killed, started again, and stopped",
    () =>
      Effect.forEach(policies, ([onStoreError, alone, reason]) =>
        Effect.gen(function*() {
          const server = yield* Server.start()
          const isClosed = onStoreError === "closed"
          const maxWait = isClosed ? "300 millis" : "8 seconds"
          const bulkhead = { name: "b", maxConcurrent: 6, maxWait, maxQueued: isClosed ? 10 : 0 } as const
          // A process that is held up for a while fails no command, and loses no lease, before the server is gone.
          const commandTimeout = 500
          const other = yield* connect(server.url, { commandTimeout })
          const b = yield* bulkheadOf(server.url, bulkhead, { onStoreError, lease: 1200 }, { commandTimeout })
          yield* eventually("both are heard", Effect.map(other.processes, (processes) => processes === 2))
          yield* b.withPermitsBy(2)(Effect.void)
          const events = yield* b.subscribe
          const running = yield* hold(b)
          const killed = server.kill()
          // What it holds is its own for as long as the lease lasts.
          yield* b.withPermit(Effect.void)
          yield* Effect.promise(() => killed)
          yield* eventually("the lease is over", Effect.map(b.metrics, ({ held }) => held === alone))
          if (alone === 0) {
            expect(yield* Effect.map(Fiber.join(running.fiber), String).pipe(Effect.flip)).toMatchObject({
              reason: "LeaseLost"
            })
          } else yield* running.end
          const since = performance.now()
          expect(yield* admits(b)).toBe(alone)
          const calls = Effect.all(Array.from({ length: alone + 1 }, () => b.withPermit(Effect.sleep("400 millis"))), {
            concurrency: "unbounded"
          })
          expect(yield* reasonOf(calls)).toBe(reason)
          // And nobody for as long as it may.
          expect(performance.now() - since).toBeLessThan(4000)
          // Said once, and not with each call.
          yield* Effect.sleep("20 millis")
          const tags = [...yield* events.takeAll].map(({ _tag }) => _tag)
          expect(tags.filter((tag) => tag === "InternalError")).toHaveLength(1)
          expect(tags.filter((tag) => tag === "LeaseLost")).toHaveLength(alone === 0 ? 1 : 0)

          yield* Effect.promise(() => server.start())
          const back = Effect.map(stateOf(other, "b"), ({ used }) => used > 0)
          yield* eventually(
            "it is shared again",
            Effect.zipRight(
              Effect.exit(b.withPermit(Effect.sleep("5 millis"))),
              Effect.orElseSucceed(back, () => false)
            )
          )
          yield* eventually("it works again", Effect.isSuccess(b.withPermit(Effect.void)))

          // A server that does not answer: calls wait for it as long as a command may take, twice, and not for their maxWait.
          yield* eventually("it holds nothing", Effect.map(b.metrics, ({ held }) => held === 0))
          server.pause()
          const stopped = performance.now()
          const exit = yield* Effect.either(b.withPermit(Effect.void))
          expect(exit._tag === "Right" ? "admitted" : exit.left.reason).toBe(
            alone > 0 ? "admitted" : reason
          )
          expect(performance.now() - stopped).toBeLessThan(4000)
          server.resume()
          yield* eventually("it works again", Effect.isSuccess(b.withPermit(Effect.void)))
        }), { concurrency: "unbounded" }),
    30_000
  )

  it.scopedLive("a lease ends on time, though the answer to its renewal is still to come", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const b = yield* bulkheadOf(server.url, { name: "b" }, { lease: 500 }, { commandTimeout: "10 seconds" })
      const running = yield* hold(b)
      const since = performance.now()
      server.pause()
      expect(yield* Effect.flip(Fiber.join(running.fiber))).toMatchObject({ reason: "LeaseLost" })
      // And not when the answer is there, or its time is over.
      expect(performance.now() - since).toBeLessThan(5000)
      server.resume()
      yield* b.withPermit(Effect.void)
    }))

  it.scopedLive("RB17: open and local go on at the end of the lease, though Redis may still answer, and turn nobody away", () =>
    Effect.forEach([["open", 300], ["local", 300], ["open", 10_000], ["local", 10_000]] as const, (
      [onStoreError, commandTimeout]
    ) =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const bulkhead = { name: "b", maxConcurrent: 2, maxQueued: 0 }
        const b = yield* bulkheadOf(server.url, bulkhead, { lease: 1000, onStoreError }, { commandTimeout })
        const running = yield* hold(b)
        const told: Array<string> = []
        const tell = ({ _tag }: Bulkhead.Event) => Effect.sync(() => told.push(_tag))
        const errors: Array<unknown> = []
        yield* b.on("LeaseLost", tell)
        yield* b.on(
          "InternalError",
          (event) => Effect.zipRight(Effect.sync(() => errors.push(event.error)), tell(event))
        )
        server.pause()
        yield* eventually("it goes on alone", Effect.map(b.metrics, ({ held }) => held === 2))
        const exits: Array<string> = []
        for (const end = performance.now() + 1000; performance.now() < end;) {
          const exit = yield* Effect.either(b.withPermit(Effect.sleep("1 millis")))
          exits.push(exit._tag === "Left" ? exit.left.reason : "done")
        }
        expect([...new Set(exits)]).toEqual(["done"])
        server.resume()
        const other = yield* connect(server.url)
        yield* eventually("it is shared again", Effect.map(stateOf(other, "b"), ({ used }) => used > 0))
        yield* eventually("it is let in by a lease", Effect.isSuccess(b.withPermit(Effect.void)))
        expect(yield* running.end).toMatchObject({ _tag: "Success" })
        expect(told).toEqual(["InternalError"])
        expect(errors).toMatchObject([{ reason: "Timeout", server: `127.0.0.1:${server.port}` }])
      }), { concurrency: "unbounded" }))

  it.scopedLive("RB4: after another server nobody knows the leases: strict waits for a lease, and what is held stays so", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const lease = 1500
      const options = { lease, strict: true }
      const bulkhead = { name: "b", maxConcurrent: 2, maxWait: "10 seconds" as const }
      const [a, b] = yield* Effect.all([
        bulkheadOf(server.url, bulkhead, options),
        bulkheadOf(server.url, bulkhead, options)
      ])
      // The first use is by a server that nobody knows, too.
      const one = yield* hold(a)
      yield* Effect.promise(() => server.kill())
      yield* Effect.promise(() => server.start())
      const since = performance.now()
      yield* eventually("b is let in", Effect.isSuccess(b.withPermit(Effect.void)))
      const waited = performance.now() - since
      expect(waited).toBeGreaterThan(lease - 100)
      expect((yield* a.metrics).active).toBe(1)
      yield* one.end
    }))
})

describe.skipIf(!canStart)("RedisBulkhead that is strict", () => {
  it.scopedLive("RB12: who waits for the leases that nobody knows asks now and then, and is let in when they are over", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* connect(server.url)
      const lease = 1500
      const bulkhead = { name: "b", maxConcurrent: 1, maxWait: "10 seconds" as const }
      const [a, b] = yield* Effect.all([
        bulkheadOf(server.url, bulkhead, { lease, strict: true }),
        bulkheadOf(server.url, bulkhead, { lease, strict: true })
      ])
      const since = performance.now()
      yield* Effect.all([a.withPermit(Effect.void), b.withPermit(Effect.void)], { concurrency: "unbounded" })
      const waited = performance.now() - since
      expect(waited).toBeGreaterThan(lease - 50)
      expect(waited).toBeLessThan(lease + 1000)
      const stats = String(yield* redis.command("info", "commandstats"))
      expect(Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1])).toBeLessThan(30)
    }))
})

describe.skipIf(inject("redisUrl") === undefined)("RedisBulkhead and a server that forgets", () => {
  it.scopedLive("what it forgot is known again, where nobody has taken it", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 3 }
      const redis = yield* connect(url)
      const [a, b] = yield* Effect.all([
        bulkheadOf(url, options, { lease: 600 }),
        bulkheadOf(url, options, { lease: 600 })
      ])
      const held = yield* Effect.all([hold(a, 2), hold(b)])
      yield* forget(redis, name)
      yield* eventually("all is known again", Effect.map(stateOf(redis, name), ({ used }) => used === 3))
      expect(yield* lostBy(name)).not.toContain(1)
      for (const { end } of held) expect(yield* end).toMatchObject({ _tag: "Success" })
    }))

  it.scopedLive("RB4: where another has taken it, the one that had it loses it before its lease is over, and is told", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const options = { name, maxConcurrent: 1 }
      const [a, b, c] = yield* Effect.all([
        bulkheadOf(url, options, { lease: 900 }),
        bulkheadOf(url, options, { lease: 900 }),
        bulkheadOf(url, { ...options, maxQueued: 0 }, { lease: 900, onLeaseLost: "report" })
      ])
      const redis = yield* connect(url)
      const events = yield* a.subscribe
      const held = yield* hold(a)
      yield* forget(redis, name)
      const since = performance.now()
      const second = yield* hold(b)
      const error = yield* Effect.flip(Fiber.join(held.fiber))
      // It asks after a third of a lease.
      expect(performance.now() - since).toBeLessThan(900)
      expect(error).toMatchObject({ _tag: "BulkheadFullError", instance: name, reason: "LeaseLost" })
      expect(String(error)).toContain("lost the permits of a running call")
      expect(yield* a.metrics).toMatchObject({ active: 0, failed: 1 })
      expect([...yield* events.takeAll]).toContainEqual(expect.objectContaining({ _tag: "LeaseLost", active: 1 }))
      expect(yield* lostBy(name)).toEqual([1])

      // Who only reports goes on.
      yield* second.end
      const third = yield* eventually("c has it", Effect.isSuccess(c.withPermit(Effect.void))).pipe(
        Effect.zipRight(hold(c))
      )
      const told = yield* c.subscribe
      yield* forget(redis, name)
      const fourth = yield* hold(b)
      expect(yield* told.take).toMatchObject({ _tag: "LeaseLost", active: 1 })
      expect((yield* c.metrics).active).toBe(1)
      expect(yield* third.end).toMatchObject({ _tag: "Success" })
      yield* fourth.end
    }))
})

describe.skipIf(!canStart)("RedisBulkhead without its channel", () => {
  it.scopedLive(
    "RB5: the channel is cut all the time: who waits finds what is free by asking",
    () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* connect(server.url)
        const options = { name: "b", maxConcurrent: 1, maxWait: "10 seconds" as const }
        const [a, b] = yield* Effect.all([bulkheadOf(server.url, options), bulkheadOf(server.url, options)])
        let cuts = 0
        yield* Effect.forkScoped(Effect.forever(
          redis.command("client", "kill", "type", "pubsub").pipe(
            Effect.tap((killed) => Effect.sync(() => cuts += Number(killed))),
            Effect.zipRight(Effect.sleep("2 millis"))
          )
        ))
        while (cuts < 10) {
          const held = yield* hold(a)
          const waiting = yield* Effect.fork(b.withPermit(Effect.sync(() => performance.now())))
          yield* eventually("it waits", Effect.map(stateOf(redis, "b"), ({ line }) => line.length === 1))
          yield* held.end
          const free = yield* eventually(
            "it is free",
            Effect.map(stateOf(redis, "b"), ({ used, holders }) => used === 0 || holders.size === 1)
          ).pipe(Effect.map(() => performance.now()))
          // A second, and what this machine does meanwhile; not the rest of a lease.
          expect((yield* Fiber.join(waiting)) - free).toBeLessThan(4000)
        }
      }),
    20_000
  )
})
