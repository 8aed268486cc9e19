import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { askOrNothing } from "./utils/ask.js"
import { Proxy } from "./utils/proxy.js"
import { scale } from "./utils/scale.js"
import { canStart, Server } from "./utils/server.js"
import { underLoad, untilBack } from "./utils/underLoad.js"
import { until } from "./utils/until.js"

describe.skipIf(!canStart)("faults of Redis", () => {
  it.scopedLive("RN1: killed and started again, no call is long, none runs late, and it is back", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const { end, load, redis } = yield* underLoad(server, server.url)
      yield* Effect.sleep(scale(200, 1000))
      yield* Effect.promise(() => server.kill())
      yield* Effect.sleep(scale(600, 5000))
      expect((yield* redis.health).status).toBe("down")
      yield* Effect.promise(() => server.start())
      const back = yield* untilBack(load, performance.now())
      yield* Effect.sleep(scale(100, 3000))
      expect(yield* end("killed")).toMatchObject({ twice: 0, late: 0 })
      console.log(`killed: back after ${back.toFixed(0)} ms`)
      expect(back).toBeLessThanOrEqual(1500)
      expect((yield* redis.health).status).toBe("up")
    }))

  it.scopedLive("RN2: paused, no call is long, and none runs when it goes on", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const { end, load } = yield* underLoad(server, server.url)
      yield* Effect.sleep(scale(200, 1000))
      server.pause()
      yield* Effect.sleep(scale(700, 5000))
      server.resume()
      const back = yield* untilBack(load, performance.now())
      yield* Effect.sleep(scale(200, 3000))
      const verdict = yield* end("paused")
      console.log(`paused: back after ${back.toFixed(0)} ms`)
      expect(back).toBeLessThanOrEqual(2000)
      expect(verdict).toMatchObject({ twice: 0, late: 0 })
      expect(verdict.ran).toBeGreaterThanOrEqual(load.succeeded)
    }))

  it.scopedLive("RN3: a reply that is lost with its connection is a failure, and its command ran once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const { end, load } = yield* underLoad(server, proxy.url, {}, 500)
      for (let times = 0; times < scale(3, 20); times++) {
        yield* Effect.sleep(100)
        yield* Effect.promise(() => until("it is there", () => proxy.open > 0 && load.recoveredAfter(0) < Infinity))
        proxy.mode = { _tag: "dropReply" }
        yield* Effect.promise(() => until("a reply is lost", () => proxy.mode._tag === "pass"))
      }
      const verdict = yield* end("reply lost")
      expect(Object.keys(load.reasons())).toContain("Disconnected")
      expect(verdict).toMatchObject({ twice: 0, late: 0 })
      // Some ran of which nobody heard.
      expect(verdict.ran).toBeGreaterThan(load.succeeded)
    }))

  it.scopedLive("RN4: a black hole is left within the socket's time, and the connection is back soon after", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const { end, load } = yield* underLoad(server, proxy.url, { socketTimeout: scale(300, 1000) })
      yield* Effect.sleep(100)
      const before = proxy.accepted
      proxy.mode = { _tag: "blackHole" }
      yield* Effect.promise(() => until("it connects anew", () => proxy.accepted > before, 3000))
      yield* Effect.sleep(scale(0, 3000))
      proxy.mode = { _tag: "pass" }
      const back = yield* untilBack(load, performance.now())
      expect(yield* end("black hole")).toMatchObject({ twice: 0, late: 0 })
      console.log(`black hole: back after ${back.toFixed(0)} ms`)
      expect(back).toBeLessThanOrEqual(2500)
    }))

  it.scopedLive("RN5: slow but in time is no failure; too slow is, and is left alone until it is not", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const { end, load, redis } = yield* underLoad(server, proxy.url, {}, 200)
      yield* Effect.promise(() => until("its script is known", () => load.succeeded > 0))
      proxy.mode = { _tag: "delay", millis: () => 20 + 40 * Math.random() }
      yield* Effect.sleep(scale(300, 3000))
      expect(load.reasons()).toEqual({})
      proxy.mode = { _tag: "delay", millis: () => 300 }
      yield* Effect.promise(() => until("it is down", () => Number(load.reasons().Down ?? 0) > 0))
      yield* Effect.sleep(scale(200, 3000))
      proxy.mode = { _tag: "pass" }
      yield* untilBack(load, performance.now())
      expect(yield* end("slow")).toMatchObject({ twice: 0, late: 0 })
      expect((yield* redis.metrics).outages).toBe(1)
    }))

  it.scopedLive("RN7: a server that forgets its scripts fails no call, and runs each once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const { end, load } = yield* underLoad(server, server.url, { commandTimeout: "1 second" })
      for (let times = 0; times < scale(6, 60); times++) {
        yield* Effect.promise(() => askOrNothing(server.port, "script", "flush"))
        yield* Effect.sleep(50)
      }
      const verdict = yield* end("scripts flushed")
      expect(load.reasons()).toEqual({})
      expect(verdict).toEqual({ twice: 0, late: 0, ran: load.calls.length })
    }))

  it.scopedLive("cut again and again, every call ends in time and no more than once", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const proxy = yield* Proxy.start(server.port)
      const { end, redis } = yield* underLoad(server, proxy.url)
      for (let times = 0; times < scale(4, 40); times++) {
        yield* Effect.sleep(100 + 100 * Math.random())
        if (times % 2 === 0) proxy.cut()
        else proxy.halfClose()
      }
      expect(yield* end("cut")).toMatchObject({ twice: 0, late: 0 })
      expect((yield* redis.metrics).pending).toBe(0)
    }))
})
