import { Clock, Duration, Effect } from "effect"

/** A clock that tests move by hand: a step costs a microsecond, `TestClock.adjust` costs milliseconds. */
export interface ManualClock {
  readonly clock: Clock.Clock
  /** Moves time and wakes the sleepers that are due, in order. Their fibers run at the next yield. */
  readonly adjust: (duration: Duration.DurationInput) => void
  /** Fibers that sleep. */
  readonly sleepers: () => number
}

export const makeManualClock = (startMillis = 0): ManualClock => {
  let nanos = BigInt(startMillis) * 1_000_000n
  const sleepers = new Set<{ readonly due: bigint; readonly wake: () => void }>()
  const millis = () => Number(nanos) / 1e6
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: millis,
    unsafeCurrentTimeNanos: () => nanos,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanos: Effect.sync(() => nanos),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const span = Duration.toNanos(duration)
        if (span._tag === "None") return
        const sleeper = { due: nanos + span.value, wake: () => resume(Effect.void) }
        sleepers.add(sleeper)
        return Effect.sync(() => sleepers.delete(sleeper))
      })
  }
  return {
    clock,
    adjust: (duration) => {
      const span = Duration.toNanos(duration)
      if (span._tag === "Some") nanos += span.value
      const due = [...sleepers].filter((s) => s.due <= nanos).sort((a, b) => a.due < b.due ? -1 : a.due > b.due ? 1 : 0)
      for (const sleeper of due) {
        sleepers.delete(sleeper)
        sleeper.wake()
      }
    },
    sleepers: () => sleepers.size
  }
}
