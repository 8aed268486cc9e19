import type { Trouble } from "@effect-resilience/core/extension"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { IdempotencyStore } from "../../IdempotencyStore.js"
import { IdempotencyStoreError } from "../../IdempotencyStore.js"
import type { Again } from "./again.js"
import { mostAgain } from "./again.js"

/** A key that was taken for a request. @internal */
export interface Claim extends IdempotencyStore.Owner {
  readonly fingerprint: string
}

/** @internal */
export interface BoundedStore extends IdempotencyStore.Service {
  /**
   * Takes a key anew that is held, for another lease; can be interrupted. One that lands after the key was let go, as
   * `isFree` tells, lets it go again.
   */
  readonly renew: (
    request: IdempotencyStore.Begin,
    isFree: () => boolean
  ) => Effect.Effect<IdempotencyStore.Begun, IdempotencyStoreError>
}

/**
 * In a fiber that is nobody's child: whoever is interrupted interrupts its children at once, also where it is not to be
 * interrupted itself.
 */
const undisturbed = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.uninterruptible(Effect.flatMap(Effect.forkDaemon(effect), Fiber.join))

/**
 * A store that answers in time, and that a client who goes does not disturb. A key that its caller does not know to have,
 * because `begin` failed or came too late, is let go when `begin` has ended: the store may have taken it. To let a key go is
 * tried again where it fails, or the key stays taken until its lease is over: its token is used no more, so that is done to
 * nobody else's, however late or often.
 *
 * @internal
 */
export const boundedStore = (
  store: IdempotencyStore.Service,
  limit: Duration.Duration,
  { failed, worked }: Trouble,
  again: Again | undefined
): BoundedStore => {
  const bounded = <A>(
    operation: IdempotencyStoreError["operation"],
    effect: Effect.Effect<A, IdempotencyStoreError>
  ): Effect.Effect<A, IdempotencyStoreError> =>
    Effect.tapBoth(
      Effect.timeoutFail(Effect.interruptible(Effect.disconnect(effect)), {
        duration: limit,
        onTimeout: () => new IdempotencyStoreError({ operation, reason: "Timeout" })
      }),
      { onFailure: failed, onSuccess: () => worked }
    )
  /** So many at once. */
  const releasing = () => {
    let count = 0
    return ({ key, token }: IdempotencyStore.Owner) => {
      const attempt = bounded("release", store.release({ key, token }))
      const later = Effect.suspend(() => {
        if (again === undefined || count >= mostAgain) return Effect.void
        count++
        return again(attempt, () => Effect.sync(() => count--))
      })
      return undisturbed(Effect.tapError(attempt, () => later))
    }
  }
  const release = releasing()
  /** Of what may not be taken at all: in an outage those are many, and are not to be in the way of what is. */
  const releaseIfTaken = releasing()
  return {
    begin: (request) =>
      Effect.suspend(() => {
        let isAwaited = true
        let hasBegun = false
        const letGo = Effect.suspend(() => Effect.ignore((hasBegun ? release : releaseIfTaken)(request)))
        const begun = Effect.onExit(store.begin(request), (exit) => {
          hasBegun = Exit.isSuccess(exit)
          return hasBegun && isAwaited ? Effect.void : letGo
        })
        const settled = Effect.tapErrorCause(
          bounded("begin", begun),
          () =>
            Effect.suspend(() => {
              isAwaited = false
              return hasBegun ? letGo : Effect.void
            })
        )
        return Effect.uninterruptible(settled)
      }),
    renew: (request, isFree) =>
      bounded(
        "begin",
        Effect.onExit(store.begin(request), () => isFree() ? Effect.ignore(release(request)) : Effect.void)
      ),
    complete: (request) => undisturbed(bounded("complete", store.complete(request))),
    release
  }
}
