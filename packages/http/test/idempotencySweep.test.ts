import { IdempotencyStore } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { interrupted, places, turns } from "./utils/idempotencySweep.js"

/*
 * A request with a key is interrupted at every operation. Whenever it comes, nothing stays in flight, and a handler
 * whose response was to be kept has it kept.
 */

describe("interrupted at every operation", () => {
  for (const late of [0, 2]) {
    for (const place of places) {
      it.live(`from ${place} on, nothing stays in flight, in a store that takes ${late} turns`, () =>
        Effect.gen(function*() {
          const lost: Array<string> = []
          for (const budget of [12, 23]) {
            for (let phase = 0; phase < budget; phase++) {
              for (let n = 0; n <= 8; n++) {
                const memory = yield* IdempotencyStore.makeMemory()
                const isDone = yield* interrupted(memory, place, late, n, phase, budget)
                yield* turns(6 + (place === "renew" ? 8 : 3) * late)
                const { done, inFlight } = yield* memory.metrics
                const where = `budget ${budget}, phase ${phase}, turns ${n}`
                if (inFlight !== 0) lost.push(`in flight: ${where}`)
                if (done > 0 && !isDone) lost.push(`kept what nobody did: ${where}`)
                if (place === "complete" && done === 0) lost.push(`forgot what was done: ${where}`)
              }
            }
          }
          expect(lost).toEqual([])
        }))
    }
  }
})
