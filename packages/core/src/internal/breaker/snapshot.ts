import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"
import { duration } from "../event.js"
import * as time from "../time.js"
import type { Image } from "./state.js"

/** @internal */
export const State = Schema.Literal("Closed", "Open", "HalfOpen", "ForcedOpen", "Disabled", "MetricsOnly")

/** A state that means the same in another process: durations left and ages, no instants. @internal */
export const Snapshot = Schema.Struct({
  state: State,
  /**
   * Time left of an open circuit, `null` on the wire for one without end. Where it is absent of an open circuit, that is
   * open for its first time, and a forced one until it is reset. Of a disabled one, and of one that only measures, it is
   * there where they end by themselves. Absent for the other states.
   */
  left: Schema.optional(duration),
  /** How long it has been in this state. */
  age: Schema.optionalWith(duration, { default: () => Duration.zero }),
  /** How often it opened in a row. */
  opens: Schema.optionalWith(Schema.NonNegativeInt, { default: () => 0 }),
  consecutiveFailures: Schema.optionalWith(Schema.NonNegativeInt, { default: () => 0 }),
  /** How long the share of traffic that a closed circuit admits still grows; absent where it admits all. */
  rampLeft: Schema.optional(duration),
  /** What the rules look at, oldest first. */
  window: Schema.optionalWith(
    Schema.Array(Schema.Struct({
      age: duration,
      calls: Schema.NonNegativeInt,
      failures: Schema.NonNegativeInt,
      slow: Schema.NonNegativeInt
    })),
    { default: () => [] }
  )
})

/** What a snapshot is taken to say where it says nothing. @internal */
export const blank: Omit<typeof Snapshot.Type, "state" | "left" | "rampLeft"> = {
  age: Duration.zero,
  opens: 0,
  consecutiveFailures: 0,
  window: []
}

/** @internal */
export const imageOf = (snapshot: typeof Snapshot.Type): Image => ({
  state: snapshot.state,
  left: snapshot.left === undefined ? undefined : time.toNanos(snapshot.left),
  age: time.toNanos(snapshot.age),
  opens: Math.min(snapshot.opens, 1000), // a schedule is stepped that often
  failuresInRow: snapshot.consecutiveFailures,
  rampLeft: snapshot.rampLeft === undefined ? undefined : time.toNanos(snapshot.rampLeft),
  window: snapshot.window.map((part) => ({ ...part, age: time.toNanos(part.age) }))
})

/** @internal */
export const snapshotOf = (image: Image): typeof Snapshot.Type => ({
  state: image.state,
  ...(image.left === undefined ? {} : { left: time.fromNanos(image.left) }),
  age: time.fromNanos(image.age),
  opens: image.opens,
  consecutiveFailures: image.failuresInRow,
  ...(image.rampLeft === undefined ? {} : { rampLeft: time.fromNanos(image.rampLeft) }),
  window: image.window.map((part) => ({ ...part, age: time.fromNanos(part.age) }))
})
