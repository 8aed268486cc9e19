import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { inject } from "vitest"
import { patience, step } from "./utils/bulkheadStep.js"

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
})
