import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { bulkheadOf, eventually, hold } from "./utils/bulkheads.js"
import { pad, stall } from "./utils/moments.js"

const url = String(inject("redisUrl"))

describe.skipIf(inject("redisUrl") === undefined)(
  "RedisBulkhead in a process that stood still for longer than its lease",
  () => {
    for (const onLeaseLost of ["interrupt", "report"] as const) {
      it.scopedLive(`RB11: calls that waited wait on, and are let in by the next lease (${onLeaseLost})`, () =>
        Effect.gen(function*() {
          const options = { name: randomUUID(), maxConcurrent: 2, maxWait: "5 seconds" as const }
          const bulkhead = yield* bulkheadOf(url, options, { lease: 300, onLeaseLost })
          const held = yield* Effect.all([hold(bulkhead), hold(bulkhead)])
          const waiting = yield* Effect.forEach(
            Array.from({ length: 4 }),
            () => Effect.fork(Effect.either(bulkhead.withPermit(Effect.succeed("done"))))
          )
          yield* eventually("they wait", Effect.map(bulkhead.metrics, ({ waiting }) => waiting === 4))
          yield* stall(400)
          // Their permits are handed on before anybody has seen that the lease is over.
          for (const { end } of held) yield* end
          for (const call of waiting) expect(yield* Fiber.join(call)).toMatchObject({ _tag: "Right", right: "done" })
        }))
    }

    it.scopedLive("RB16: a call that had its permit and has not begun waits on", () =>
      Effect.gen(function*() {
        const bulkhead = yield* bulkheadOf(url, { name: randomUUID(), maxConcurrent: 1 }, { lease: 100 })
        const ends: Array<string> = []
        for (let phase = 0; phase <= 12; phase++) {
          yield* bulkhead.withPermit(Effect.void)
          let begun = "not begun"
          const call = yield* Effect.fork(Effect.withMaxOpsBeforeYield(
            Effect.zipRight(
              pad(phase),
              Effect.either(bulkhead.withPermit(Effect.sync(() => {
                begun = "begun"
              })))
            ),
            28
          ))
          // It runs where the call lets others run first: between any two of its operations.
          yield* Effect.fork(stall(120))
          const end = yield* Fiber.join(call)
          if (end._tag === "Left") ends.push(`${end.left.reason}, ${begun}`)
        }
        expect(ends.filter((end) => end.endsWith("not begun"))).toEqual([])
      }))

    it.scopedLive("RB11: the first call asks Redis, and does not fail", () =>
      Effect.gen(function*() {
        const options = { name: randomUUID(), maxConcurrent: 1, maxQueued: 0 }
        const bulkhead = yield* bulkheadOf(url, options, { lease: 300 })
        yield* bulkhead.withPermit(Effect.void)
        yield* stall(400)
        expect(yield* bulkhead.withPermit(Effect.succeed("done"))).toBe("done")
      }))

    it.scopedLive("RB11: what is held for a scope is taken by the next lease, and nothing is kept beside it", () =>
      Effect.gen(function*() {
        const bulkhead = yield* bulkheadOf(url, { name: randomUUID(), maxConcurrent: 1 }, { lease: 200 })
        yield* bulkhead.withPermit(Effect.void)
        yield* stall(300)
        yield* Effect.scoped(Effect.zipRight(
          bulkhead.acquire,
          Effect.map(bulkhead.metrics, ({ active }) => expect(active).toBe(1))
        ))
        expect((yield* bulkhead.metrics).active).toBe(0)
      }))
  }
)
