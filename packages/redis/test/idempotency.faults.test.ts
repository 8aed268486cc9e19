import { Idempotency } from "@effect-resilience/http"
import { RedisConnection } from "@effect-resilience/redis"
import { RedisIdempotencyStore } from "@effect-resilience/redis/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Logger, Schema } from "effect"
import { interrupted, places, turns } from "../../http/test/utils/idempotencySweep.js"
import { fetchNode, serveNode } from "../../http/test/utils/servers.js"
import { connect } from "./utils/connected.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"

/** What a command may take; a request whose key cannot be asked for may take one to ask and one to let go. */
const commandTimeout = scale(250, 100)
/** How long the machine may keep one waiting: among all tests it is busy. */
const lag = scale(2000, 150)

const storeOf = (redis: RedisConnection.Service) =>
  Effect.provideService(RedisIdempotencyStore.make(), RedisConnection, redis)

/** A shop over real sockets, its keys in a Redis of its own, and how often each order was carried out. */
const makeShop = (options: Partial<Idempotency.Options<never>> = {}) =>
  Effect.gen(function*() {
    const server = yield* Server.start()
    const redis = yield* connect(server.url, { commandTimeout })
    const carriedOut = new Map<string, number>()
    const place = Effect.gen(function*() {
      const { id, millis } = yield* HttpServerRequest.schemaBodyJson(
        Schema.Struct({ id: Schema.String, millis: Schema.Number })
      )
      carriedOut.set(id, (carriedOut.get(id) ?? 0) + 1)
      yield* Effect.sleep(millis)
      return yield* HttpServerResponse.json({ id, count: carriedOut.get(id) }, { status: 201 })
    })
    const serve = Effect.gen(function*() {
      const app = HttpRouter.empty.pipe(
        HttpRouter.post("/orders", place),
        Idempotency.middleware({ name: "orders", principal: Idempotency.anybody, ...options })
      )
      const store = Layer.provide(RedisIdempotencyStore.layer(), Layer.succeed(RedisConnection, redis))
      return yield* Effect.provide(serveNode(app), yield* Layer.build(store))
    })
    const orderAt = (url: string) => (id: string, millis = 0) =>
      Effect.promise(async () => {
        const started = performance.now()
        const answer = await fetchNode(`${url}/orders`, {
          method: "POST",
          headers: { "idempotency-key": `"${id}"`, "content-type": "application/json" },
          body: JSON.stringify({ id, millis })
        })
        return {
          status: answer?.status,
          isReplayed: answer?.headers["idempotency-replayed"] === "true",
          took: performance.now() - started
        }
      })
    /** Until Redis is asked again, and answers. */
    const recovered = Effect.repeat(
      Effect.zipLeft(Effect.isSuccess(redis.command("ping")), Effect.sleep("20 millis")),
      {
        until: (isUp) => isUp
      }
    )
    const begun = (id: string) =>
      Effect.repeat(Effect.zipLeft(Effect.sync(() => carriedOut.has(id)), Effect.sleep("2 millis")), {
        until: (has) => has
      })
    // Two processes, as far as they share nothing but Redis.
    const [order, other] = [orderAt((yield* serve).url), orderAt((yield* serve).url)] as const
    return { server, redis, order, other, recovered, begun, count: (id: string) => carriedOut.get(id) ?? 0 }
  })

describe.skipIf(!canStart)("Redis fails between begin and complete", () => {
  it.scopedLive("RS4: paused: its client gets the response, nobody hangs, and it is kept when Redis is back", () =>
    Effect.gen(function*() {
      const { begun, count, order, other, recovered, server } = yield* makeShop({ lease: "3 seconds" })
      const first = yield* Effect.fork(order("a", 150))
      yield* begun("a")
      server.pause()
      const { status, took } = yield* Fiber.join(first)
      expect(status).toBe(201)
      expect(took).toBeLessThan(150 + 2 * commandTimeout + lag)
      // Nothing can be asked, but this process knows what it did.
      expect(yield* order("a", 150)).toMatchObject({ status: 201, isReplayed: true })
      const refused = yield* order("b")
      expect(refused.status).toBe(503)
      expect(refused.took).toBeLessThan(2 * commandTimeout + lag)
      // When the connection broke, what was under way failed before its time: that may still be carried out until then.
      yield* Effect.sleep(Duration.millis(commandTimeout))
      server.resume()
      yield* recovered
      // What came too late was not done: the key of "b" was not taken.
      expect((yield* order("b")).status).toBe(201)
      // The other process knows it when it is kept, well before the lease is over, and both after that.
      yield* Effect.repeat(Effect.zipLeft(other("a", 150), Effect.sleep("20 millis")), {
        until: ({ status }) => status === 201
      })
      yield* Effect.sleep("3 seconds")
      for (const process of [order, other]) {
        expect(yield* process("a", 150)).toMatchObject({ status: 201, isReplayed: true })
      }
      expect([count("a"), count("b")]).toEqual([1, 1])
    }))

  it.scopedLive("RS5: killed: its client gets the response, nobody hangs, and it is kept by the Redis that comes instead", () =>
    Effect.gen(function*() {
      const { begun, count, order, other, recovered, redis, server } = yield* makeShop()
      const first = yield* Effect.fork(order("a", 150))
      yield* begun("a")
      yield* Effect.promise(() => server.kill())
      const { status, took } = yield* Fiber.join(first)
      expect(status).toBe(201)
      expect(took).toBeLessThan(150 + commandTimeout + lag)
      for (let n = 0; n < 5; n++) {
        const refused = yield* order("b", 150)
        expect(refused.status).toBe(503)
        expect(refused.took).toBeLessThan(2 * commandTimeout + lag)
      }
      expect(count("a")).toBe(1)
      yield* Effect.promise(() => server.start())
      yield* recovered
      // This server keeps nothing on disk: it has lost the key, and is given the response.
      const keys = redis.command("keys", `${redis.prefix}idempotency:*`)
      yield* Effect.repeat(Effect.zipLeft(keys, Effect.sleep("20 millis")), {
        until: (keys) => (keys as ReadonlyArray<string>).length > 0
      })
      for (const process of [order, other]) {
        expect(yield* process("a", 150)).toMatchObject({ status: 201, isReplayed: true })
      }
      expect(count("a")).toBe(1)
      // What is lost when it was kept already, is carried out again.
      yield* redis.command("flushall")
      expect(yield* order("a", 150)).toMatchObject({ status: 201, isReplayed: false })
      expect(count("a")).toBe(2)
    }))

  it.scopedLive("with onStoreError open, what is asked in the meantime is carried out without protection", () =>
    Effect.gen(function*() {
      const { count, order, recovered, server } = yield* makeShop({ onStoreError: "open" })
      server.pause()
      const { status, took } = yield* order("a")
      expect(status).toBe(201)
      expect(took).toBeLessThan(2 * commandTimeout + lag)
      expect((yield* order("a")).status).toBe(201)
      expect(count("a")).toBe(2)
      server.resume()
      yield* recovered
      yield* order("a")
      expect(yield* order("a")).toMatchObject({ status: 201, isReplayed: true })
      expect(count("a")).toBe(3)
    }))

  it.scopedLive("RS11: an outage is told in one line, whatever its reasons, and a Redis that is full at once after it", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ message }) => {
      const text = [message].flat().map(String).join(" ")
      if (text.startsWith("Idempotency")) lines.push(text)
    })
    return Effect.gen(function*() {
      const { order, recovered, redis, server } = yield* makeShop()
      server.pause()
      // Some are too late, the others not sent any more.
      for (let n = 0; n < 7; n++) expect((yield* order("a")).status).toBe(503)
      expect((yield* Effect.flip(redis.command("ping"))).reason).toBe("Down")
      const outage = [
        expect.stringMatching(/^Idempotency "orders": store failed \(onStoreError: "fail"\): .* failed \(Timeout\)/)
      ]
      expect(lines).toEqual(outage)
      server.resume()
      yield* recovered
      yield* redis.command("config", "set", "maxmemory", "1")
      expect((yield* order("b")).status).toBe(503)
      expect(lines).toEqual([...outage, expect.stringContaining("OutOfMemory")])
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  it.scopedLive(
    "RS4: paused again and again under load: no order is carried out twice within its lease, and nobody hangs",
    () =>
      Effect.gen(function*() {
        const { count, order, recovered, server } = yield* makeShop()
        const ids = Array.from({ length: scale(80, 1500) }, (_, n) => `o${n}`)
        const pauses = Effect.forever(Effect.gen(function*() {
          yield* Effect.sleep("60 millis")
          server.pause()
          yield* Effect.sleep(Duration.millis(1.8 * commandTimeout))
          server.resume()
        }))
        const pausing = yield* Effect.fork(pauses)
        let longest = 0
        const seen = new Set<number | undefined>()
        yield* Effect.forEach(ids, (id) =>
          Effect.gen(function*() {
            for (let attempt = 0; attempt < 4; attempt++) {
              const { status, took } = yield* order(id, 20)
              longest = Math.max(longest, took)
              seen.add(status)
              yield* Effect.sleep("30 millis")
            }
          }), { concurrency: 20 })
        yield* Fiber.interrupt(pausing)
        server.resume()
        yield* recovered
        expect(ids.filter((id) => count(id) > 1)).toEqual([])
        // The trouble was seen, and was not all there was.
        expect(seen).toContain(503)
        expect(seen).toContain(201)
        expect(longest).toBeLessThan(20 + 3 * commandTimeout + lag)
      }),
    180_000
  )
})

describe.skipIf(!canStart)("interrupted at every operation, in Redis", () => {
  for (const place of places) {
    it.scopedLive(`RS6: from ${place} on, nothing stays in flight`, () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const redis = yield* connect(server.url)
        const store = yield* storeOf(redis)
        /** The only key: "New" where it is free again. */
        const state: Effect.Effect<"free" | "in flight" | "done", unknown> = Effect.gen(function*() {
          const [key] = (yield* redis.command("keys", `${redis.prefix}idempotency:*`)) as ReadonlyArray<string>
          if (key === undefined) return "free"
          return (yield* redis.command("hexists", key, "r")) === 1 ? "done" : "in flight"
        })
        const settled = Effect.repeat(Effect.zipRight(turns(3), state), {
          while: (state) => state === "in flight",
          times: 500
        })
        const lost: Array<string> = []
        const seen = new Set<string>()
        for (const budget of [12, 23]) {
          for (let phase = 0; phase < budget; phase += scale(3, 1)) {
            for (let n = 0; n <= 8; n++) {
              yield* redis.command("flushall")
              // Every other time the server knows how to let a key go, but not how to take one, and is asked for that twice.
              if (n % 2 === 0) {
                yield* redis.command("script", "flush")
                yield* store.release({ key: "none", token: "none" })
              }
              const isDone = yield* interrupted(store, place, 0, n, phase, budget)
              const state = yield* settled
              seen.add(state)
              const where = `budget ${budget}, phase ${phase}, turns ${n}`
              if (state === "in flight") lost.push(`in flight: ${where}`)
              if (state === "done" && !isDone) lost.push(`kept what nobody did: ${where}`)
              if (place === "complete" && state !== "done") lost.push(`forgot what was done: ${where}`)
            }
          }
        }
        expect(lost).toEqual([])
        expect(seen).toContain(place === "complete" ? "done" : "free")
      }))
  }
})
