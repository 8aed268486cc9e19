import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { RateLimiterStoreError } from "../../RateLimiter.js"
import type { RateLimiterStore } from "../../RateLimiterStore.js"
import { onceAMinute } from "../onceAMinute.js"
import type { Limits } from "./limits.js"

/** A store did not answer in time. */
class StoreTimeout extends Data.TaggedError("StoreTimeout")<{ readonly message: string }> {}

/** What a store said, or that it failed. @internal */
export type Answer<A> = Either.Either<A, RateLimiterStoreError>

const right = <A>(value: A): Effect.Effect<Answer<A>> => Effect.succeed(Either.right(value))

const identity = <A>(a: A): A => a

/**
 * How a store is asked: within a time, and what fails is counted.
 *
 * @internal
 */
export class Asking {
  /** Whether the store's own deadline is soon enough. */
  private readonly settles: boolean
  private readonly warn: (error: unknown) => Effect.Effect<void>

  constructor(
    private readonly limits: Limits,
    private readonly store: RateLimiterStore.Service,
    private readonly storeTimeout: Duration.Duration,
    private readonly storeError: (cause: unknown) => RateLimiterStoreError,
    /** What its failures mean, for people. */
    meaning: string
  ) {
    this.settles = store.settlesWithin !== undefined && Duration.lessThanOrEqualTo(store.settlesWithin, storeTimeout)
    this.warn = onceAMinute((error) => limits.watch.emitter.internalError("Store", error, meaning))
  }

  /**
   * An answer of the store, in time, or its failure as a value. A store that hangs is left behind: nobody waits for it
   * longer than the timeout, whether or not the caller and the store can be interrupted. A store that settles by itself
   * spares two fibers for each question.
   */
  ask<A>(effect: Effect.Effect<A, Error>): Effect.Effect<Answer<A>> {
    return Effect.matchCauseEffect(this.settles ? effect : this.inTime(effect), {
      onSuccess: right,
      onFailure: this.left
    })
  }

  // An interruption seen here is the store's own: where the caller is interrupted, nothing of this runs.
  private readonly left = (cause: Cause.Cause<Error>) => {
    const error = Cause.squash(cause)
    return Effect.as(this.failed(error), Either.left(this.storeError(error)))
  }

  private inTime<A>(effect: Effect.Effect<A, Error>): Effect.Effect<A, Error> {
    return effect.pipe(
      Effect.disconnect,
      Effect.interruptible,
      Effect.timeoutFail({
        duration: this.storeTimeout,
        onTimeout: () =>
          new StoreTimeout({ message: `the store did not answer within ${Duration.format(this.storeTimeout)}` })
      })
    )
  }

  /** A decision: at once where the store can, else in time, or its failure. */
  decision<A, E>(
    request: RateLimiterStore.Request,
    settle: (answer: Answer<RateLimiterStore.Decision>) => Effect.Effect<A, E>,
    restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E> = identity
  ): Effect.Effect<A, E> {
    const { store } = this
    let found: RateLimiterStore.Decision | Effect.Effect<RateLimiterStore.Decision, Error>
    try {
      found = store.decideAtOnce?.(request) ?? store.decide(request)
    } catch (error) {
      found = Effect.die(error)
    }
    return Effect.isEffect(found) ? Effect.flatMap(restore(this.ask(found)), settle) : settle(Either.right(found))
  }

  /** The store failed: counted each time, told once a minute for as long as it lasts. */
  private failed(error: unknown): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { limits } = this
      limits.storeErrors++
      limits.watch.decided.store_error()
      return this.warn(error)
    })
  }
}
