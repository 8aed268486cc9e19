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
import { capture } from "../storedResponse.js"
import type { BoundedStore, Claim } from "./bounded.js"
import type { Told } from "./told.js"
import type { Unkept } from "./unkept.js"

/** @internal */
export interface Run {
  readonly store: BoundedStore
  readonly unkept: Unkept
  readonly told: Told
  readonly scope: Scope.Scope
  readonly claim: Claim
  /** The key, as it may be shown. */
  readonly shown: string
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
  const { claim, shown, store, told, unkept } = run
  const release = Effect.suspend(() => {
    run.isFree = true
    return Effect.ignore(store.release(claim))
  })
  const settled = Effect.suspend(() => {
    if (response === undefined || !run.shouldStore(response.status)) return release
    const stored = capture(response, run.maxResponseSize)
    if (stored.body === null && run.onUnstorable === "release") return release
    const request = { ...claim, response: stored, ttl: run.ttl }
    return Effect.matchEffect(store.complete(request), {
      // The request was carried out: its key is not let go.
      onFailure: () => unkept.tryAgain(request, shown),
      onSuccess: (isKept) => told.response(isKept ? "kept" : "lease_lost", shown)
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
