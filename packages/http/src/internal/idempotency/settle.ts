import * as App from "@effect/platform/HttpApp"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { IdempotencyStore } from "../../IdempotencyStore.js"
import { IdempotencyStoreError } from "../../IdempotencyStore.js"
import { capture } from "../storedResponse.js"

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
 * A store that answers in time, and that a client who goes does not disturb. A key that its caller does not know to have,
 * because `begin` failed or came too late, is let go when `begin` has ended: the store may have taken it.
 *
 * @internal
 */
export const boundedStore = (
  store: IdempotencyStore.Service,
  limit: Duration.Duration,
  failed: (error: IdempotencyStoreError) => Effect.Effect<void>
): BoundedStore => {
  const bounded = <A>(
    operation: IdempotencyStoreError["operation"],
    effect: Effect.Effect<A, IdempotencyStoreError>
  ): Effect.Effect<A, IdempotencyStoreError> =>
    Effect.tapError(
      Effect.timeoutFail(Effect.interruptible(Effect.disconnect(effect)), {
        duration: limit,
        onTimeout: () => new IdempotencyStoreError({ operation, reason: "Timeout" })
      }),
      failed
    )
  const release = (owner: IdempotencyStore.Owner) =>
    Effect.uninterruptible(bounded("release", store.release({ key: owner.key, token: owner.token })))
  return {
    begin: (request) =>
      Effect.suspend(() => {
        let isAwaited = true
        let hasBegun = false
        const letGo = Effect.ignore(release(request))
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
    complete: (request) => Effect.uninterruptible(bounded("complete", store.complete(request))),
    release
  }
}

/** @internal */
export interface Run {
  readonly store: BoundedStore
  readonly scope: Scope.Scope
  readonly claim: Claim
  readonly lease: Duration.Duration
  readonly ttl: Duration.Duration
  readonly maxResponseSize: number
  readonly shouldStore: (status: number) => boolean
  readonly onUnstorable: "refuse" | "release"
}

/** A run whose key is held. */
interface Held extends Run {
  /** Whether the key was let go. */
  isFree: boolean
}

/**
 * Takes the key again and again while its handler runs, so that it is held for as long as that takes, and no longer than
 * the lease once the process is dead. It ends when the key is another's.
 */
const renewing = (run: Held): Effect.Effect<void> => {
  const { claim, lease, store } = run
  const once = Effect.match(store.renew({ ...claim, lease, isRenewal: true }, () => run.isFree), {
    // The next one may do.
    onFailure: () => true,
    onSuccess: ({ _tag }) => _tag === "New"
  })
  const pause = Duration.times(lease, 1 / 3)
  return Effect.asVoid(Effect.repeat(Effect.delay(once, pause), { while: (isHeld) => isHeld }))
}

const whileRenewed = <A, E, R>(run: Held, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(Effect.fork(Effect.interruptible(renewing(run))), () => effect, Fiber.interrupt)

/** Lets the key go, or keeps the response under it. */
const settle = (run: Held, response: HttpServerResponse | undefined): Effect.Effect<void> => {
  const { claim, store } = run
  const release = Effect.suspend(() => {
    run.isFree = true
    return Effect.ignore(store.release(claim))
  })
  const settled = Effect.suspend(() => {
    if (response === undefined || !run.shouldStore(response.status)) return release
    const stored = capture(response, run.maxResponseSize)
    if (stored.body === null && run.onUnstorable === "release") return release
    return Effect.matchEffect(store.complete({ ...claim, response: stored, ttl: run.ttl }), {
      // The request was carried out: until the lease ends its key stays taken.
      onFailure: () => Effect.void,
      onSuccess: (isKept) =>
        isKept
          ? Effect.void
          : Effect.logWarning(
            "Idempotency: a handler took longer than the lease of its key, which could not be renewed"
          )
    })
  })
  // `shouldStore` is the user's, and may throw. The request was carried out all the same, and its response is sent.
  return Effect.catchAllCause(
    settled,
    (cause) => Effect.zipRight(release, Effect.logError("Idempotency: a key could not be settled", cause))
  )
}

/** Runs the app with its own pre-response handlers, and returns them with its exit. */
const withHandlers = <E, R>(app: App.Default<E, R>) =>
  Effect.locally(
    Effect.zip(Effect.exit(app), FiberRef.get(App.currentPreResponseHandlers)),
    App.currentPreResponseHandlers,
    Option.none()
  )

/**
 * Runs an app that has a key, uninterruptible around it, and settles the key when the app ends, not when its response is
 * sent: a handler that was left behind by a timeout is still at work, and what it will answer is what a repetition gets.
 *
 * A failure is known as a response only when one is made of it. If that never comes, the key goes with the request.
 *
 * @internal
 */
export const runOnce = <E, R>(of: Run, app: App.Default<E, R>): App.Default<E, R> => {
  const run: Held = { ...of, isFree: false }
  return Effect.flatMap(whileRenewed(run, withHandlers(app)), ([exit, handlers]): App.Default<E, R> => {
    if (Exit.isSuccess(exit)) {
      const final = Option.isNone(handlers) ? exit : Effect.orDie(
        Effect.flatMap(
          ServerRequest.HttpServerRequest,
          (request: HttpServerRequest) => handlers.value(request, exit.value)
        )
      )
      return Effect.tapErrorCause(
        Effect.tap(final, (response) => settle(run, response)),
        () => settle(run, undefined)
      )
    }
    const again = Option.match(handlers, { onNone: () => Effect.void, onSome: App.appendPreResponseHandler })
    if (Option.isNone(Cause.failureOption(exit.cause)) || Cause.isInterrupted(exit.cause)) {
      return Effect.zipRight(Effect.zipRight(settle(run, undefined), again), exit)
    }
    return Effect.zipRight(Effect.zipRight(again, settleWithResponse(run)), exit)
  })
}

const settleWithResponse = (run: Held): Effect.Effect<void> => {
  let isSettled = false
  const once = (response: HttpServerResponse | undefined) =>
    Effect.suspend(() => {
      if (isSettled) return Effect.void
      isSettled = true
      return settle(run, response)
    })
  return Effect.zipRight(
    Scope.addFinalizer(run.scope, once(undefined)),
    App.appendPreResponseHandler((_, response) => Effect.as(once(response), response))
  )
}
