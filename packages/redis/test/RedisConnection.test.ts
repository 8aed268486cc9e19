import { RedisConnection } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { script } from "../src/internal/script.js"

const url = inject("redisUrl")

const echo = script("echo", "return {KEYS[1], ARGV[1], #ARGV, now}")

describe.skipIf(url === undefined)("RedisConnection", () => {
  it.scopedLive("runs a script that the server does not know yet, and a command", () =>
    Effect.gen(function*() {
      const redis = yield* RedisConnection.make({ server: { _tag: "Standalone", url: String(url) }, prefix: "conn:" })
      yield* redis.command("script", "flush")
      const [key, arg, count, now] = (yield* redis.run(echo, ["conn:k"], ["v"])) as ReadonlyArray<unknown>
      expect([key, arg, count]).toEqual(["conn:k", "v", 1])
      expect(Math.abs(Number(now) / 1000 - Date.now())).toBeLessThan(60_000)
      expect(yield* redis.command("ping")).toBe("PONG")
      expect(yield* redis.processes).toBeGreaterThanOrEqual(1)
    }))
})
