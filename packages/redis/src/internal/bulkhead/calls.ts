import type { BulkheadFullError } from "@effect-resilience/core"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"

/** The fence of the permits that a call holds. @internal */
export class Fence extends Context.Reference<Fence>()("@effect-resilience/redis/Fence", {
  defaultValue: Option.none<number>
}) {}

/** What the calls need to know of the lease. @internal */
export interface Lease {
  readonly isGood: () => boolean
  readonly fence: () => number
  readonly error: () => BulkheadFullError
}

/**
 * The calls that run by a lease. Each has a fiber of its own, so that it can be interrupted without its caller; one whose
 * caller cannot be interrupted goes on, and keeps its answer.
 *
 * @internal
 */
export class Calls {
  private readonly running = new Set<() => void>()

  constructor(
    private readonly lease: Lease,
    private readonly options: { readonly interrupt: boolean; readonly fences: boolean }
  ) {}

  readonly check: Effect.Effect<void, BulkheadFullError> = Effect.suspend(() =>
    this.lease.isGood() ? Effect.void : Exit.fail(this.lease.error())
  )

  /** The lease is lost. */
  interruptAll(): void {
    for (const interrupt of [...this.running]) interrupt()
  }

  readonly around = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | BulkheadFullError, R> => {
    const fenced = this.fenced(effect)
    if (!this.options.interrupt) return Effect.zipRight(this.check, fenced)
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiberRuntime<A, E | BulkheadFullError, R>((parent) => {
        if (!this.lease.isGood()) return Exit.fail(this.lease.error())
        return Effect.flatMap(Effect.fork(restore(fenced)), (child) => {
          let isLost = false
          const interrupt = () => {
            isLost = true
            child.unsafeInterruptAsFork(parent.id())
          }
          this.running.add(interrupt)
          // It may have been lost between the two.
          if (!this.lease.isGood()) interrupt()
          return Effect.matchCauseEffect(restore(Fiber.await(child)), {
            onSuccess: (exit): Effect.Effect<A, E | BulkheadFullError> => {
              this.running.delete(interrupt)
              if (Exit.isFailure(exit) && Cause.isInterrupted(exit.cause)) {
                return isLost ? Exit.fail(this.lease.error()) : exit
              }
              return Effect.zipRight(child.inheritAll, exit)
            },
            onFailure: (cause) =>
              Effect.flatMap(Fiber.interrupt(child), (exit) => {
                this.running.delete(interrupt)
                return Exit.failCause(withDefects(cause, exit))
              })
          })
        })
      })
    )
  }

  private fenced<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    if (!this.options.fences) return effect
    return Effect.contextWithEffect((context: Context.Context<R>) =>
      Effect.provide(effect, Context.add(context, Fence, Option.some(this.lease.fence())))
    )
  }
}

/** A cause with the defects of what was interrupted because of it. */
const withDefects = <E>(cause: Cause.Cause<E>, exit: Exit.Exit<unknown, unknown>): Cause.Cause<E> =>
  exit._tag === "Success"
    ? cause
    : Option.match(Cause.keepDefects(exit.cause), {
      onNone: () => cause,
      onSome: (defects) => Cause.sequential(cause, defects)
    })
