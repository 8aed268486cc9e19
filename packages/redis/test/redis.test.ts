import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { inject } from "vitest"

const url = inject("redisUrl")

describe.skipIf(url === undefined)("redis", () => {
  it.scopedLive("the tests have a Redis of their own", () =>
    Effect.gen(function*() {
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(String(url))),
        (redis) => Effect.promise(() => redis.quit())
      )
      expect(yield* Effect.promise(() => redis.ping())).toBe("PONG")
    }))
})
