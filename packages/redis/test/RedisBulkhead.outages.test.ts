import { RedisBulkhead } from "@effect-resilience/redis"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { connect, eventually, stateOf } from "./utils/bulkheads.js"
import { Deaf } from "./utils/deaf.js"

const url = String(inject("redisUrl"))

describe.skipIf(inject("redisUrl") === undefined)("RedisBulkhead that does not hear Redis for a while", () => {
  it.scopedLive("RB23: gives back what it did not hear that it was given, though who asked for it has gone", () =>
    Effect.gen(function*() {
      const name = randomUUID()
      const redis = yield* connect(url)
      const deaf = new Deaf(redis)
      const b = yield* deaf.provide(RedisBulkhead.make({ name, maxConcurrent: 1 }, { lease: "1 minute" }))
      const gone = yield* Deferred.make<void>()
      deaf.waits = Deferred.await(gone)
      deaf.losing = true
      const caller = yield* Effect.fork(b.withPermit(Effect.void))
      yield* eventually("it was given the permit", Effect.sync(() => deaf.lost === 1))
      expect((yield* stateOf(redis, name)).used).toBe(1)
      deaf.losing = false
      yield* Fiber.interrupt(caller)
      yield* Deferred.succeed(gone, void 0)
      yield* eventually("it is free", Effect.map(stateOf(redis, name), ({ used }) => used === 0))
    }))
})
