import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { ask, askOrNothing } from "./utils/ask.js"
import { ledger, Load, quantile } from "./utils/load.js"
import { Proxy } from "./utils/proxy.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"
import { until } from "./utils/until.js"

const wait = (millis: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, millis)))
const deadline = 100

/** No call may take longer, whatever happens; so much the timers of a busy machine may be late. */
const expectShort = (load: Load, what: string) => {
  const durations = load.durations()
  console.log(
    `${what}: ${durations.length} calls, ${load.succeeded} succeeded, ${JSON.stringify(load.reasons())}; ` +
      `p99.9 ${quantile(durations, 0.999).toFixed(1)} ms, longest ${quantile(durations, 1).toFixed(1)} ms`
  )
  expect(load.pending).toBe(0)
  expect(quantile(durations, 0.999)).toBeLessThanOrEqual(deadline + 20)
}

const untilBack = (load: Load, since: number) =>
  Effect.promise(() => until("it is back", () => load.recoveredAfter(since) < Infinity, 4000))

const entries = (port: number, key = "l") =>
  Effect.promise(async () => await ask(port, "lrange", key, 0, -1) as Array<string>)

describe.skipIf(!canStart)("faults of Redis", () => {
  it.scopedLive("RN1: killed and started again, no call is long, none runs late, and it is back", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* RedisConnection.make({ server: server.url })
      const load = yield* Load.start(redis, "l")
      yield* wait(scale(200, 1000))
      yield* Effect.promise(() => server.kill())
      yield* wait(scale(600, 5000))
      expect((yield* redis.health).status).toBe("down")
      yield* Effect.promise(() => server.start())
      const back = performance.now()
      yield* untilBack(load, back)
      yield* wait(scale(100, 3000))
      yield* load.stop
      expectShort(load, "killed")
      console.log(`killed: back after ${load.recoveredAfter(back).toFixed(0)} ms`)
      expect(load.recoveredAfter(back)).toBeLessThanOrEqual(1500)
      expect(yield* entries(server.port).pipe(Effect.map((all) => load.verdict(all)))).toMatchObject({
        twice: 0,
        late: 0
      })
      expect((yield* redis.health).status).toBe("up")
    }))

  it.scopedLive("RN2: paused, no call is long, and none runs when it goes on", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* RedisConnection.make({ server: server.url })
      const load = yield* Load.start(redis, "l")
      yield* wait(scale(200, 1000))
      server.pause()
      yield* wait(scale(700, 5000))
      server.resume()
      const back = performance.now()
      yield* untilBack(load, back)
      yield* wait(scale(200, 3000))
      yield* load.stop
      expectShort(load, "paused")
      console.log(`paused: back after ${load.recoveredAfter(back).toFixed(0)} ms`)
      expect(load.recoveredAfter(back)).toBeLessThanOrEqual(2000)
      const verdict = load.verdict(yield* entries(server.port))
      expect(verdict).toMatchObject({ twice: 0, late: 0 })
      expect(verdict.ran).toBeGreaterThanOrEqual(load.succeeded)
    }))

  it.scopedLive("RN3: a reply that is lost with its connection is a failure, and its command ran once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const redis = yield* RedisConnection.make({ server: proxy.url })
      const load = yield* Load.start(redis, "l", 500)
      for (let times = 0; times < scale(3, 20); times++) {
        yield* wait(100)
        yield* Effect.promise(() => until("it is there", () => proxy.open > 0 && load.recoveredAfter(0) < Infinity))
        proxy.mode = { _tag: "dropReply" }
        yield* Effect.promise(() => until("a reply is lost", () => proxy.mode._tag === "pass"))
      }
      yield* load.stop
      expectShort(load, "reply lost")
      expect(Object.keys(load.reasons())).toContain("Disconnected")
      const verdict = load.verdict(yield* entries(server.port))
      expect(verdict).toMatchObject({ twice: 0, late: 0 })
      // Some ran of which nobody heard.
      expect(verdict.ran).toBeGreaterThan(load.succeeded)
    }))

  it.scopedLive("RN4: a black hole is left within the socket's time, and the connection is back soon after", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const redis = yield* RedisConnection.make({ server: proxy.url, socketTimeout: scale(300, 1000) })
      const load = yield* Load.start(redis, "l")
      yield* wait(100)
      const before = proxy.accepted
      proxy.mode = { _tag: "blackHole" }
      yield* Effect.promise(() => until("it connects anew", () => proxy.accepted > before, 3000))
      yield* wait(scale(0, 3000))
      proxy.mode = { _tag: "pass" }
      const healed = performance.now()
      yield* untilBack(load, healed)
      yield* load.stop
      expectShort(load, "black hole")
      console.log(`black hole: back after ${load.recoveredAfter(healed).toFixed(0)} ms`)
      expect(load.recoveredAfter(healed)).toBeLessThanOrEqual(2500)
      expect(load.verdict(yield* entries(server.port))).toMatchObject({ twice: 0, late: 0 })
    }))

  it.scopedLive("RN5: slow but in time is no failure; too slow is, and is left alone until it is not", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const redis = yield* RedisConnection.make({ server: proxy.url })
      yield* redis.run(ledger, ["l"], ["before"])
      const load = yield* Load.start(redis, "l", 200)
      proxy.mode = { _tag: "delay", millis: () => 20 + 40 * Math.random() }
      yield* wait(scale(300, 3000))
      expect(load.reasons()).toEqual({})
      proxy.mode = { _tag: "delay", millis: () => 300 }
      yield* Effect.promise(() => until("it is down", () => Number(load.reasons().Down ?? 0) > 0))
      yield* wait(scale(200, 3000))
      proxy.mode = { _tag: "pass" }
      const healed = performance.now()
      yield* untilBack(load, healed)
      yield* load.stop
      expectShort(load, "slow")
      expect((yield* redis.metrics).outages).toBe(1)
      expect(load.verdict(yield* entries(server.port))).toMatchObject({ twice: 0, late: 0 })
    }))

  it.scopedLive("RN7: a server that forgets its scripts fails no call, and runs each once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* RedisConnection.make({ server: server.url, commandTimeout: "1 second" })
      const load = yield* Load.start(redis, "l")
      for (let times = 0; times < scale(6, 60); times++) {
        yield* Effect.promise(() => askOrNothing(server.port, "script", "flush"))
        yield* wait(50)
      }
      yield* load.stop
      expectShort(load, "scripts flushed")
      expect(load.reasons()).toEqual({})
      expect(load.verdict(yield* entries(server.port))).toEqual({ twice: 0, late: 0, ran: load.calls.length })
    }))

  it.scopedLive("cut again and again, every call ends in time and no more than once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const redis = yield* RedisConnection.make({ server: proxy.url })
      const load = yield* Load.start(redis, "l")
      for (let times = 0; times < scale(4, 40); times++) {
        yield* wait(100 + 100 * Math.random())
        if (times % 2 === 0) proxy.cut()
        else proxy.halfClose()
      }
      yield* load.stop
      expectShort(load, "cut")
      expect(load.verdict(yield* entries(server.port))).toMatchObject({ twice: 0, late: 0 })
      expect((yield* redis.metrics).pending).toBe(0)
    }))
})
