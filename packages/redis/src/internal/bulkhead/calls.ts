import type { BulkheadFullError } from "@effect-resilience/core"
import { hold, notBegun } from "@effect-resilience/core/extension"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"

/** The fence of the permits that a call holds. @internal */
export class Fence extends Context.Reference<Fence>()("@effect-resilience/redis/Fence", {
  defaultValue: Option.none<number>
}) {}

/** What the calls need to know of the lease. @internal */
export interface Lease {
  /** Whether the process still has the permits that its calls use. */
  readonly covers: () => boolean
  /** That of its permits; none where no lease is behind them. */
  readonly fence: () => Option.Option<number>
  readonly error: () => BulkheadFullError
}

/** A call that runs in its caller's fiber. */
class Run {
  /** Who interrupted it for the lease, if somebody did. */
  by: FiberId.FiberId | undefined

  constructor(private readonly fiber: Fiber.RuntimeFiber<unknown, unknown>) {}

  interrupt(): void {
    // One of its own: a call inside of another ends its own interruption, and not that of the other.
    this.by = FiberId.unsafeMake()
    this.fiber.unsafeInterruptAsFork(this.by)
  }
}

/**
 * The calls that run by a lease, each in the fiber of its caller: one of its own would cost ten times what a permit does.
 * When the lease is lost that fiber is interrupted, by an id that nobody else has; where the call ends this one is taken
 * from what the fiber was interrupted by, and becomes an error of the call. The caller's own interruption stays. A call
 * whose caller cannot be interrupted goes on, and keeps its answer.
 *
 * @internal
 */
export class Calls {
  private readonly running = new Set<Run>()

  constructor(
    private readonly lease: Lease,
    private readonly options: { readonly interrupt: boolean; readonly fences: boolean }
  ) {}

  /** The lease is lost. Not to be called by a fiber that runs a call. */
  interruptAll(): void {
    for (const run of this.running) run.interrupt()
  }

  readonly around = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | BulkheadFullError, R> =>
    this.options.interrupt ? this.within(this.fenced(effect)) : this.begun(this.fenced(effect))

  private readonly begun = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.suspend(() => this.lease.covers() ? effect : Exit.failCause(notBegun))

  private readonly within = hold<BulkheadFullError>((_, run) =>
    Effect.withFiberRuntime((fiber) => {
      // Between its permit and here it was lost: nobody would interrupt the call.
      if (!this.lease.covers()) return Exit.failCause(notBegun)
      const call = new Run(fiber)
      this.running.add(call)
      const end = <A, E>(exit: Exit.Exit<A, E>): Effect.Effect<A, E> => {
        this.running.delete(call)
        // The error of a lost lease is one that the guard adds.
        return call.by === undefined ? exit : this.ended(exit, call.by) as Effect.Effect<A, E>
      }
      return run({ onSuccess: (value) => end(Exit.succeed(value)), onFailure: (cause) => end(Exit.failCause(cause)) })
    })
  )

  /** How a call ends that was interrupted for the lease. */
  private ended<A, E>(exit: Exit.Exit<A, E>, by: FiberId.FiberId): Effect.Effect<A, E | BulkheadFullError> {
    return Effect.flatMap(FiberRef.get(FiberRef.interruptedCause), (cause): Effect.Effect<A, E | BulkheadFullError> => {
      const others = [...Cause.interruptors(cause)].filter((other) => !Equal.equals(other, by))
      const rest = others.reduce<Cause.Cause<never>>(
        (rest, other) => Cause.sequential(rest, Cause.interrupt(other)),
        Cause.empty
      )
      const left = FiberRef.set(FiberRef.interruptedCause, rest)
      if (Exit.isSuccess(exit) || others.length > 0 || !Cause.isInterrupted(exit.cause)) {
        return Effect.zipRight(left, exit)
      }
      return Effect.zipRight(left, Effect.failCause(withDefects(Cause.fail(this.lease.error()), exit.cause)))
    })
  }

  private fenced<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    if (!this.options.fences) return effect
    return Effect.contextWithEffect((context: Context.Context<R>) =>
      Effect.provide(effect, Context.add(context, Fence, this.lease.fence()))
    )
  }
}

/** A cause with the defects of what was interrupted because of it. */
const withDefects = <E>(cause: Cause.Cause<E>, interrupted: Cause.Cause<unknown>): Cause.Cause<E> =>
  Option.match(Cause.keepDefects(interrupted), {
    onNone: () => cause,
    onSome: (defects) => Cause.sequential(cause, defects)
  })
