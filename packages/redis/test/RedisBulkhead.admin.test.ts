import { ResilienceLive } from "@effect-resilience/core"
import { Admin } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { bulkheadOf, eventually, hold } from "./utils/bulkheads.js"

const url = String(inject("redisUrl"))
const operator = { name: "an operator" }
const live = Admin.Live.pipe(Layer.provideMerge(ResilienceLive), Layer.merge(Logger.remove(Logger.defaultLogger)))

const resize = (instance: string, input: number, ttl: Admin.Act["ttl"] = "1 second") =>
  Effect.flatMap(
    Admin,
    ({ apply }) => apply({ pattern: "Bulkhead", instance, action: "resize", input, reason: "a test", ttl }, operator)
  )

const two = Effect.gen(function*() {
  const name = randomUUID()
  const options = { name, maxConcurrent: 10 }
  // Of the other process the registry of this one knows nothing.
  return {
    name,
    here: yield* bulkheadOf(url, options),
    there: yield* Effect.provide(bulkheadOf(url, options), ResilienceLive)
  }
})

describe.skipIf(inject("redisUrl") === undefined)("an operator's limit of a shared bulkhead, for a while", () => {
  for (const inUse of [0, 3]) {
    it.scopedLive(`RB19: is afterwards what it was, and not what a process held (${inUse})`, () =>
      Effect.gen(function*() {
        const { here, name, there } = yield* two
        const held = yield* Effect.all(Array.from({ length: inUse }, () => hold(here)))
        const { previous } = yield* resize(name, 5)
        expect(previous).toMatchObject({ limit: 10 })
        expect(yield* Effect.flip(here.withPermitsBy(6)(Effect.void))).toMatchObject({ reason: "TooManyPermits" })
        yield* eventually("its end", Effect.map(here.metrics, ({ limit }) => limit !== 5))
        for (const one of held) yield* one.end
        for (const bulkhead of [here, there]) {
          yield* eventually("ten run at once", Effect.isSuccess(bulkhead.withPermitsBy(10)(Effect.void)))
          expect((yield* bulkhead.metrics).limit).toBe(10)
        }
      }).pipe(Effect.provide(live)))
  }
})
