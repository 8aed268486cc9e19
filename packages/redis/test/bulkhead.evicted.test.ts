import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { lease, step } from "./utils/bulkheadStep.js"

describe.skipIf(inject("redisUrl") === undefined)("what is evicted in part", () => {
  it.scopedLive("RN20: where the ends of leases are, the dead lose theirs a lease later, and the living do not", () =>
    Effect.gen(function*() {
      const { asks, clock, forgetEnds } = yield* step(3)
      expect(yield* asks({ id: "dead", seq: 1, keep: 0, want: 2 })).toMatchObject({ held: 2 })
      expect(yield* asks({ id: "alive", seq: 1, keep: 0, want: 1 })).toMatchObject({ held: 1 })
      yield* forgetEnds
      expect(yield* asks({ id: "b", seq: 1, keep: 0, want: 3 })).toMatchObject({ held: 0 })
      clock.us += 700_000_000
      expect(yield* asks({ id: "alive", seq: 2, keep: 1, want: 1 })).toMatchObject({ held: 1, lost: false, fence: 0 })
      expect(yield* asks({ id: "b", seq: 2, keep: 0, want: 3 })).toMatchObject({ held: 0 })
      clock.us += 400_000_000
      expect(yield* asks({ id: "b", seq: 3, keep: 0, want: 3 })).toMatchObject({ held: 2 })
      expect(yield* asks({ id: "alive", seq: 3, keep: 1, want: 1 })).toMatchObject({ held: 1, lost: false, fence: 0 })
    }))

  it.scopedLive("RB27: each has a lease of its own length, whoever asks next", () =>
    Effect.gen(function*() {
      const { asks, clock, forgetEnds, keptFor } = yield* step(3)
      const long = 10 * lease
      expect(yield* asks({ id: "long", seq: 1, keep: 0, want: 1, lease: long })).toMatchObject({ held: 1 })
      expect(yield* asks({ id: "short", seq: 1, keep: 0, want: 1 })).toMatchObject({ held: 1 })
      yield* forgetEnds
      expect(yield* asks({ id: "other", seq: 1, keep: 0, want: 1 })).toMatchObject({ held: 1 })
      expect(yield* keptFor).toBeGreaterThanOrEqual(long / 1000)
      // Two of its leases later the short one is over, and the long one is not.
      clock.us += 2 * lease
      expect(yield* asks({ id: "b", seq: 1, keep: 0, want: 3 })).toMatchObject({ held: 2 })
      clock.us += long
      expect(yield* asks({ id: "b", seq: 2, keep: 0, want: 3 })).toMatchObject({ held: 3 })

      // Nor has a short one the length of the long one that asks.
      yield* asks({ id: "b", seq: 3, keep: 0, want: 0 })
      expect(yield* asks({ id: "short", seq: 2, keep: 0, want: 1 })).toMatchObject({ held: 1 })
      yield* forgetEnds
      expect(yield* asks({ id: "long", seq: 2, keep: 0, want: 1, lease: long })).toMatchObject({ held: 1 })
      clock.us += 2 * lease
      expect(yield* asks({ id: "b", seq: 4, keep: 0, want: 3 })).toMatchObject({ held: 2 })
    }))

  it.scopedLive("RB27: one of which no length is kept, as before there was one, has that of who asks", () =>
    Effect.gen(function*() {
      const { asks, clock, forgetEnds, writes } = yield* step(3)
      expect(yield* asks({ id: "old", seq: 1, keep: 0, want: 1 })).toMatchObject({ held: 1 })
      yield* writes("old", "1 1 1 1700000000000000")
      // It asks, others do, and so they do where the ends are evicted.
      expect(yield* asks({ id: "b", seq: 1, keep: 0, want: 3 })).toMatchObject({ held: 2 })
      expect(yield* asks({ id: "old", seq: 1, keep: 1, want: 1 })).toBeUndefined()
      yield* forgetEnds
      expect(yield* asks({ id: "b", seq: 2, keep: 2, want: 3 })).toMatchObject({ held: 2, lost: false })
      clock.us += 2 * lease
      expect(yield* asks({ id: "b", seq: 3, keep: 2, want: 3 })).toMatchObject({ held: 3 })
    }))
})
