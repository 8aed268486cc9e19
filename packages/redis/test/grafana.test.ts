import type { Bulkhead } from "@effect-resilience/core"
import { ResilienceLive } from "@effect-resilience/core"
import { PrometheusMetrics } from "@effect-resilience/http"
import { RedisBulkhead, RedisConnection, RedisEventStream } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { readFileSync } from "node:fs"
import { ask } from "./utils/ask.js"
import { canStart, Server } from "./utils/server.js"
import { eventually } from "./utils/until.js"

const files = ["alerts.yaml", "fleet.json", "policy.json"].map((name) =>
  readFileSync(new URL(`../../http/grafana/${name}`, import.meta.url), "utf8")
)

describe.skipIf(!canStart)("dashboards and alerts", () => {
  it.scopedLive("RN22: refer to what is scraped of Redis, which says that it is down, and that it refuses", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const redis = yield* RedisConnection.make({ server: server.url, name: "scraped", downAfter: 1 })
      yield* RedisConnection.make({ server: server.url, name: "scraped-too" })
      yield* Effect.flip(redis.command("get"))
      yield* Layer.build(
        RedisEventStream.layer().pipe(
          Layer.provide(ResilienceLive),
          Layer.provide(Layer.succeed(RedisConnection, redis))
        )
      )
      const bulkhead: Bulkhead.Service = yield* RedisBulkhead.make({ name: "scraped", maxConcurrent: 1 }).pipe(
        Effect.provideService(RedisConnection, redis)
      )
      yield* bulkhead.withPermit(Effect.void)
      const asked = new Set(files.flatMap((text) => text.match(/resilience_(redis|bulkhead_leases)_\w+/g) ?? []))
      expect(asked.size).toBeGreaterThan(8)
      const text = yield* PrometheusMetrics.text()
      expect([...asked].filter((name) => !text.includes(`\n${name}{`))).toEqual([])

      const is = (name: string, value: number) =>
        eventually(
          `${name} is ${value}`,
          Effect.map(PrometheusMetrics.text(), (text) =>
            text.split("\n").some((line) =>
              line.startsWith(`resilience_redis_${name}{`) && line.includes("\"scraped\"") && line.endsWith(` ${value}`)
            ))
        )
      yield* is("processes", 2)
      yield* is("up", 1)
      yield* is("degraded", 0)
      yield* Effect.promise(() => ask(server.port, "config", "set", "maxmemory", "1"))
      yield* is("degraded", 1)
      yield* Effect.promise(() => server.kill())
      yield* is("up", 0)
    }))
})
