import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { askOrNothing } from "./utils/ask.js"
import { Load } from "./utils/load.js"
import type { Proxy } from "./utils/proxy.js"
import { long, scale } from "./utils/scale.js"
import { masterName, Sentinels } from "./utils/sentinel.js"
import { canStart } from "./utils/server.js"
import { entriesOf, expectShort, untilBack } from "./utils/underLoad.js"
import { until } from "./utils/until.js"

const failOver = (name: string, fault: "kill" | "pause") =>
  Effect.gen(function*() {
    const sentinels = yield* Sentinels.start({ downAfter: scale(300, 1000) })
    const redis = yield* RedisConnection.make({ server: sentinels.options, connectTimeout: "10 seconds" })
    const old = yield* Effect.promise(sentinels.master)
    const load = yield* Load.start(redis, "l")
    yield* Effect.sleep(scale(200, 500))
    if (fault === "kill") yield* Effect.promise(() => old.kill())
    else old.pause()
    yield* Effect.promise(() => until("there is another master", async () => await sentinels.master() !== old, 10_000))
    yield* untilBack(load, performance.now(), 8000)
    const master = yield* Effect.promise(sentinels.master)
    // The old one comes back, thinks for a moment that it is the master, and becomes a replica.
    if (fault === "kill") yield* Effect.promise(() => old.start())
    else old.resume()
    yield* Effect.sleep(scale(300, 8000))
    yield* load.stop
    expectShort(load, name)
    expect(load.longestGap()).toBeLessThanOrEqual(scale(6000, 5000))
    const entries = yield* entriesOf(master.port)
    expect(load.verdict(entries)).toMatchObject({ twice: 0, late: 0 })
    // All that succeeded at the end is on the new master, and on no other.
    const last = load.calls.filter(({ end, error }) => end > 0 && error === undefined).at(-1)
    expect(entries.some((entry) => entry.startsWith(`${last?.id} `))).toBe(true)
  })

describe.skipIf(!canStart)("faults of Sentinel", () => {
  // A failover takes seconds, and that of one that is paused is the harder case.
  if (long) {
    it.scopedLive(
      "RN8: the master is killed: calls stay short, and go to the new master",
      () => failOver("killed", "kill")
    )
  }

  it.scopedLive("RN9: the master is paused, and comes back as a replica: calls stay short, nothing stays pending", () =>
    failOver("paused", "pause"))

  it.scopedLive("RN10: the master is cut off from all but one client: that one follows the sentinels to the new one", () =>
    Effect.gen(function*() {
      const sentinels = yield* Sentinels.start({ linked: true, downAfter: scale(300, 1000) })
      const [old] = sentinels.servers
      const link = sentinels.link as Proxy
      const client = yield* Effect.acquireRelease(
        Effect.sync(() =>
          new Redis({
            sentinels: sentinels.sentinels.map(({ port }) => ({ host: "127.0.0.1", port })),
            name: masterName,
            natMap: { [`127.0.0.1:${link.port}`]: { host: "127.0.0.1", port: old?.port ?? 0 } },
            failoverDetector: true,
            enableOfflineQueue: false,
            maxRetriesPerRequest: 0,
            autoResendUnfulfilledCommands: false
          })
        ),
        (client) => Effect.sync(() => client.disconnect())
      )
      const redis = yield* RedisConnection.fromClient(client)
      const load = yield* Load.start(redis, "l", 500)
      yield* Effect.sleep(300)
      link.mode = { _tag: "blackHole" }
      yield* Effect.promise(() => until("there is another master", async () => await sentinels.master() !== old))
      const split = performance.now()
      const master = yield* Effect.promise(sentinels.master)
      const moved = async () => {
        const last = await askOrNothing(master.port, "lrange", "l", -1, -1)
        const id = Array.isArray(last) ? String(last[0]).split(" ")[0] : undefined
        return load.calls.some((call) => call.id === id && call.start > split)
      }
      yield* Effect.promise(() => until("calls go to the new one", moved, 5000))
      const healed = performance.now() - split
      yield* Effect.sleep(200)
      yield* load.stop
      console.log(`split: ${JSON.stringify(load.reasons())}; healed after ${healed.toFixed(0)} ms`)
      expect(healed).toBeLessThanOrEqual(2000)
      // What the old one was told while both took writes is lost with it, and nothing more.
      const onNew = yield* entriesOf(master.port)
      expect(load.verdict(onNew)).toMatchObject({ twice: 0, late: 0 })
      const late = load.calls.filter(({ error, start }) => start > split + healed + 100 && error === undefined)
      expect(late.length).toBeGreaterThan(0)
      expect(late.every(({ id }) => onNew.some((entry) => entry.startsWith(`${id} `)))).toBe(true)
    }))
})
