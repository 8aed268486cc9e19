import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { lease, patience, step } from "./utils/bulkheadStep.js"

const hour = 3600_000_000
const second = 1_000_000

describe.skipIf(inject("redisUrl") === undefined)("a shared bulkhead, when the server's clock is set back", () => {
  it.scopedLive("RB22: who waited first and died keeps nobody behind it", () =>
    Effect.gen(function*() {
      const { asks, clock } = yield* step(2)
      yield* asks({ id: "busy", seq: 1, keep: 0, want: 2 })
      yield* asks({ id: "dead", seq: 1, keep: 0, want: 1 })
      yield* asks({ id: "b", seq: 1, keep: 0, want: 1 })
      clock.us -= hour
      yield* asks({ id: "b", seq: 2, keep: 0, want: 1 })
      clock.us += patience - 60 * second
      yield* asks({ id: "b", seq: 3, keep: 0, want: 1 })
      clock.us += 120 * second
      yield* asks({ id: "busy", seq: 2, keep: 0, want: 0 })
      expect(yield* asks({ id: "b", seq: 4, keep: 0, want: 1 })).toMatchObject({ held: 1, waits: false })
    }))

  it.scopedLive("RB22: who has waited for longest is still before those who come after the step", () =>
    Effect.gen(function*() {
      const { asks, clock } = yield* step(7)
      yield* asks({ id: "busy", seq: 1, keep: 0, want: 4 })
      expect(yield* asks({ id: "a", seq: 1, keep: 0, want: 4 })).toMatchObject({ held: 3, waits: true })
      clock.us -= hour
      yield* asks({ id: "a", seq: 2, keep: 3, want: 4 })
      yield* asks({ id: "busy", seq: 2, keep: 0, want: 0 })
      // It has its share, and what is left is not for it.
      expect(yield* asks({ id: "late", seq: 1, keep: 0, want: 4 })).toMatchObject({ held: 3, waits: true })
      expect(yield* asks({ id: "a", seq: 3, keep: 3, want: 4 })).toMatchObject({ held: 4, waits: false })
    }))

  it.scopedLive("RB22: one that is strict gives nobody any for a lease, and not for as long as the step", () =>
    Effect.gen(function*() {
      const { asks, clock } = yield* step(1, { strict: true })
      yield* asks({ id: "a", seq: 1, keep: 0, want: 1 })
      clock.us -= hour
      const answer = yield* asks({ id: "a", seq: 2, keep: 0, want: 1 })
      expect(answer).toMatchObject({ held: 0, waits: true })
      expect(answer!.soon).toBeLessThanOrEqual(lease / 1000)
      clock.us += lease - 60 * second
      expect(yield* asks({ id: "a", seq: 3, keep: 0, want: 1 })).toMatchObject({ held: 0 })
      clock.us += 60 * second
      expect(yield* asks({ id: "a", seq: 4, keep: 0, want: 1 })).toMatchObject({ held: 1 })
    }))

  it.scopedLive("RB22: an operator's limit for ten minutes lasts for ten minutes more at most", () =>
    Effect.gen(function*() {
      const { asks, clock } = yield* step(4)
      const span = 600 * second
      yield* asks({ id: "a", seq: 1, keep: 0, want: 0, resize: 1, span })
      clock.us -= hour
      const answer = yield* asks({ id: "b", seq: 1, keep: 0, want: 0 })
      expect(answer).toMatchObject({ most: 1, lasting: 4 })
      expect(answer!.left).toBeLessThanOrEqual(span / 1000)
      clock.us += span
      expect(yield* asks({ id: "b", seq: 2, keep: 0, want: 0 })).toMatchObject({ most: 4, left: undefined })
    }))
})
