import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"

/** @internal */
export type Phase = "Serving" | "Leaving" | "Refusing" | "Drained"

/** A request under way, and how it is ended before its time. @internal */
export interface Flight {
  readonly cut: Effect.Effect<void>
}

/** The requests under way, and whether there may be more. @internal */
export class Flights {
  phase: Phase = "Serving"
  private readonly all = new Set<Flight>()
  private waiter: Deferred.Deferred<void> | undefined

  get size(): number {
    return this.all.size
  }

  get isRefusing(): boolean {
    return this.phase === "Refusing" || this.phase === "Drained"
  }

  enter(flight: Flight): void {
    this.all.add(flight)
  }

  leave(flight: Flight): void {
    this.all.delete(flight)
    if (this.all.size > 0 || this.waiter === undefined) return
    Deferred.unsafeDone(this.waiter, Effect.void)
    this.waiter = undefined
  }

  /** Waits until there are none. */
  readonly empty: Effect.Effect<void> = Effect.suspend(() =>
    this.all.size === 0 ? Effect.void : Deferred.await(this.waiter ??= Deferred.unsafeMake<void>(FiberId.none))
  )

  /** Ends all; returns how many there were. */
  readonly cut: Effect.Effect<number> = Effect.suspend(() => {
    const all = [...this.all]
    return Effect.as(Effect.forEach(all, (flight) => flight.cut, { discard: true }), all.length)
  })
}
