import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { Bulkhead, BulkheadFullError } from "../Bulkhead.js"
import type { Guard } from "../Pattern.js"
import type { Emitter } from "./hub.js"

/*
 * The seam for bulkheads that share their permits with other processes. The pool of this process hands out what somebody
 * lends it, and queues, counts and tells as always; only how many permits there are is another's affair.
 */

/** A bulkhead of this process, as its lender sees it. @internal */
export interface Borrower {
  readonly name: string
  readonly maxConcurrent: number
  /** Permits in use. */
  readonly used: () => number
  /** Calls that wait. */
  readonly waiting: () => number
  /** The permits that they ask for: all of them, and the one that asks for most. */
  readonly wanted: () => { readonly all: number; readonly most: number }
  readonly lend: (terms: Terms) => Refused
  /** Says how many permits all processes have together: what a call may ask for, and what is told as the limit. */
  readonly allow: (most: number) => void
  readonly error: (reason: Bulkhead.Reason) => BulkheadFullError
  readonly emitter: Emitter<Bulkhead.Event>
}

/** @internal */
export interface Terms {
  /** Permits that the process may hand out, until it is told of others. */
  readonly limit: number
  /** Whether that still holds. While it does not, no permit is handed out, and calls wait. It always does by default. */
  readonly isGood?: () => boolean
  /** Permits that the lender may still find: so many calls may wait for its answer beyond `maxQueued`. */
  readonly hoped: number
  /** Why nobody may wait, where that is so. */
  readonly shut: "StoreUnavailable" | undefined
}

/** The permits that calls asked for which `lend` turned away. @internal */
export type Refused = number

/** What a lender wants to hear, and what it does to the calls. @internal */
export interface Lender {
  /** Permits were taken or given back. */
  readonly used: (used: number) => void
  /** A call began to wait, or ended it. */
  readonly queued: () => void
  /** Stands around each call, inside its permits. It fails with `notBegun` what must not begin. */
  readonly around: Guard<BulkheadFullError>
  /**
   * An operator changes `maxConcurrent`, of all processes; for `lasts`, where that is said, as `Registry.Action` has it.
   * Succeeds with whether it is so for all by now, and not for this process alone.
   */
  readonly resize: (maxConcurrent: number, lasts?: Duration.Duration) => Effect.Effect<boolean>
}

/**
 * The cause by which `around` ends a call that has not begun when its permits are lent no longer: they are taken back, and
 * it waits for others. It is known by its identity, and empty: where the caller is interrupted besides, that alone is told.
 *
 * @internal
 */
export const notBegun: Cause.Cause<never> = Cause.sequential(Cause.empty, Cause.empty)

/** Who lends permits to the bulkheads that are built in its context. @internal */
export class Lending extends Context.Tag("@effect-resilience/Bulkhead/Lending")<
  Lending,
  (borrower: Borrower) => Effect.Effect<Lender, never, Scope>
>() {}
