import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import type * as Schedule from "effect/Schedule"
import * as Intervals from "effect/ScheduleIntervals"
import type { Scope } from "effect/Scope"
import type { Nanos } from "../time.js"
import { currentClock, forever } from "../time.js"
import type { OpenTimes, State } from "./state.js"

/** A place in a schedule: how many steps were taken, and the delay that the last one gave. */
interface Place {
  readonly steps: number
  readonly state: unknown
  readonly delay: Nanos
}

/**
 * The successive open times of a circuit: the delays of a schedule, which is stepped and never slept. A schedule that
 * ends keeps its last delay.
 *
 * Stepping needs effects (a random jitter), and transitions may have none. So the times are drawn ahead of the
 * transition that uses them, and drawn anew after it, one fiber at a time.
 *
 * @internal
 */
export class OpenTimeline {
  private readonly start: Place
  private place: Place

  constructor(private readonly schedule: Schedule.Schedule<unknown>) {
    this.start = this.place = { steps: 0, state: schedule.initial, delay: 0n }
  }

  private readonly step = (from: Place): Effect.Effect<Place> =>
    Effect.suspend(() => {
      const millis = currentClock().unsafeCurrentTimeMillis()
      return Effect.map(this.schedule.step(millis, undefined, from.state), ([state, , decision]) => {
        const delay = decision._tag === "Done" ? from.delay : toDelay(Intervals.start(decision.intervals) - millis)
        return { steps: from.steps + 1, state, delay }
      })
    })

  /** The open times of a circuit that has opened so often in a row. */
  readonly after = (opens: number): Effect.Effect<OpenTimes> =>
    Effect.gen(this, function*() {
      const first = yield* this.step(this.start)
      if (opens === 0) {
        this.place = first
        return { first: first.delay, next: first.delay }
      }
      if (this.place.steps > opens + 1) this.place = first
      while (this.place.steps <= opens) this.place = yield* this.step(this.place)
      return { first: first.delay, next: this.place.delay }
    })
}

const toDelay = (millis: number): Nanos =>
  Number.isFinite(millis) ? BigInt(Math.max(0, Math.round(millis * 1e6))) : forever

/**
 * Times for the next opening, when those of a circuit are used up. A fiber of its own draws them: a schedule of the user
 * may wait or die, which is no affair of the call that found the dependency failing. The last times known stay until there
 * are others.
 *
 * @internal
 */
export class Drawing {
  private isDrawing = false

  constructor(
    private readonly ref: Ref.Ref<State>,
    private readonly timeline: OpenTimeline,
    private readonly scope: Scope,
    private readonly failed: (error: Error) => Effect.Effect<void>
  ) {}

  readonly begin: Effect.Effect<void> = Effect.suspend(() => {
    if (this.isDrawing) return Effect.void // it goes on until it has drawn for the current state
    this.isDrawing = true
    return Effect.asVoid(Effect.forkIn(Effect.interruptible(this.draw), this.scope))
  })

  private readonly draw: Effect.Effect<void> = Effect.suspend(() =>
    Effect.flatMap(
      Ref.get(this.ref),
      ({ opens }) =>
        Effect.flatMap(this.timeline.after(opens), (times) =>
          Effect.flatMap(
            Ref.modify(this.ref, (state) => {
              this.isDrawing = state.opens !== opens
              return [this.isDrawing, { ...state, times }]
            }),
            (again) => again ? this.draw : Effect.void
          ))
    )
  ).pipe(
    Effect.catchAllCause((cause) => {
      this.isDrawing = false
      if (Cause.isInterruptedOnly(cause)) return Effect.void
      const error = Cause.squash(cause)
      return this.failed(
        new Error(`the schedule given as openDuration failed, so the times known last are kept: ${String(error)}`, {
          cause: error
        })
      )
    })
  )
}
