import type { Bulkhead } from "@effect-resilience/core"
import type { Borrower } from "@effect-resilience/core/extension"
import { Lending, notBegun } from "@effect-resilience/core/extension"
import type { Scope } from "effect"
import { Duration, Effect } from "effect"

/** A lender that does as the test says. */
export const lentBulkhead = (
  make: Effect.Effect<Bulkhead.Service, never, Scope.Scope>,
  /** How it ends a call, where it does. */
  ends: () => "LeaseLost" | "not begun" | undefined = () => undefined
) =>
  Effect.gen(function*() {
    let borrower: Borrower | undefined
    const told: Array<string> = []
    const bulkhead = yield* Effect.provideService(make, Lending, (given) => {
      borrower = given
      given.lend({ limit: 0, hoped: given.maxConcurrent, shut: undefined })
      return Effect.succeed({
        used: (used) => {
          told.push(`used ${used}`)
        },
        queued: () => {
          told.push("queued")
        },
        around: (effect) =>
          Effect.flatMap(Effect.sync(ends), (end) => {
            if (end === "not begun") return Effect.failCause(notBegun)
            return end === "LeaseLost" ? Effect.zipRight(Effect.fail(borrower!.error(end)), effect) : effect
          }),
        resize: (most, lasts) =>
          Effect.sync(() => {
            told.push(`resize ${most}${lasts === undefined ? "" : ` for ${Duration.format(lasts)}`}`)
            return most < 9
          })
      })
    })
    return { bulkhead, borrower: borrower!, told }
  })
