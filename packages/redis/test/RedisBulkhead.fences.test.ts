import type { Bulkhead } from "@effect-resilience/core"
import { RedisBulkhead } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { bulkheadOf, connect, eventually, forget, hold } from "./utils/bulkheads.js"
import { canStart, Server } from "./utils/server.js"
import { WithoutAnswers } from "./utils/withoutAnswers.js"

const url = String(inject("redisUrl"))

describe.skipIf(!canStart)("the fence of a call", () => {
  const fenceOf = (bulkhead: Bulkhead.Service) => bulkhead.withPermit(RedisBulkhead.fence)

  for (const onStoreError of ["open", "local"] as const) {
    it.scopedLive(`RB18: there is none where nothing of Redis stands behind it (${onStoreError})`, () =>
      Effect.gen(function*() {
        const server = yield* Server.start()
        const options = { lease: 300, fences: true, onStoreError }
        const [a, b] = yield* Effect.all([
          bulkheadOf(server.url, { name: "b", maxConcurrent: 1 }, options),
          bulkheadOf(server.url, { name: "b", maxConcurrent: 1 }, options)
        ])
        const first = Option.getOrThrow(yield* fenceOf(a))
        yield* Effect.promise(() => server.kill())
        yield* eventually(
          "both go on alone",
          Effect.map(Effect.all([fenceOf(a), fenceOf(b)]), (fences) => fences.every(Option.isNone)).pipe(
            Effect.orElseSucceed(() => false)
          )
        )
        yield* Effect.promise(() => server.start())
        yield* eventually(
          "it has one again",
          Effect.map(fenceOf(a), Option.exists((fence) => fence > first)).pipe(Effect.orElseSucceed(() => false))
        )
      }))
  }

  it.scopedLive("RB18: whose answer was lost is beyond those that others had meanwhile", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* connect(url)
      const lossy = new WithoutAnswers(redis)
      const another = (which: "heard" | "lost") =>
        Effect.suspend(() => {
          const before = lossy[which]
          return eventually(`an answer is ${which}`, Effect.sync(() => lossy[which] > before))
        })
      const options = { name, maxConcurrent: 1 }
      const a = yield* lossy.provide(RedisBulkhead.make(options, { fences: true }))
      const first = Option.getOrThrow(yield* fenceOf(a))
      const held = yield* hold(a)
      yield* another("heard")
      // Redis forgets; another has it meanwhile, and gives it back.
      yield* forget(redis, name)
      const second = yield* Effect.scoped(Effect.flatMap(bulkheadOf(url, options, { fences: true }), fenceOf))
      // It is given its own again, and does not hear of it.
      lossy.losing = true
      yield* another("lost")
      lossy.losing = false
      yield* another("heard")
      yield* held.end
      const third = Option.getOrThrow(yield* fenceOf(a))
      expect(Option.getOrThrow(second)).toBeGreaterThan(first)
      expect(third).toBeGreaterThan(Option.getOrThrow(second))
    }))
})
