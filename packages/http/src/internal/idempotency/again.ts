import { EventBus } from "@effect-resilience/core"
import { now, toNanos } from "@effect-resilience/core/extension"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Exit } from "effect/Exit"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"

/** Soon after a short failure; every two seconds in a long one. Whole milliseconds, for the clock of tests knows no others. */
const pauses = Schedule.exponential("100 millis").pipe(
  Schedule.union(Schedule.spaced("2 seconds")),
  Schedule.jittered,
  Schedule.modifyDelay((_, pause) => Duration.millis(Math.ceil(Duration.toMillis(pause))))
)

/** How many wait at most to be tried again, of each kind. @internal */
export const mostAgain = 1000

/** What is left of the context of a request: the rest of it need not stay in memory. */
const withoutRequest = Effect.mapInputContext((context: Context.Context<never>) =>
  Context.pick(EventBus)(context as Context.Context<EventBus>) as Context.Context<never>
)

/** Begins to try again what failed, and does not wait for what comes of it: that is `ended`. @internal */
export type Again = <A, E>(
  attempt: Effect.Effect<A, E>,
  ended: (exit: Exit<A, E>) => Effect.Effect<void>
) => Effect.Effect<void>

/**
 * Tries again for the length of a lease: after that the store has forgotten what the attempt is about, or given it to another.
 * `scope` ends the attempts; without one they end with the lease alone.
 *
 * @internal
 */
export const tryingAgain = (lease: Duration.Duration, scope: Scope | undefined): Again => (attempt, ended) =>
  Effect.suspend(() => {
    const until = now() + toNanos(lease)
    const attempts = Effect.retry(attempt, { schedule: pauses, while: () => now() < until })
    const trying = Effect.flatMap(Effect.exit(Effect.interruptible(Effect.delay(attempts, "100 millis"))), ended)
    const running = scope === undefined ? Effect.forkDaemon(trying) : Effect.forkIn(trying, scope)
    // It begins uninterruptible, so that it ends in order also where the store is closed already.
    return Effect.asVoid(withoutRequest(Effect.uninterruptible(running)))
  })
