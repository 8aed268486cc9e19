import { Effect } from "effect"

/** Waits until a condition holds, and dies where it does not in time. */
export const until = async (what: string, holds: () => Promise<boolean> | boolean, millis = 10_000): Promise<void> => {
  const end = performance.now() + millis
  while (!await holds()) {
    if (performance.now() > end) throw new Error(`not within ${millis} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** The same as an effect. */
export const eventually = <E, R>(what: string, check: Effect.Effect<boolean, E, R>, seconds = 8) =>
  Effect.gen(function*() {
    for (const due = performance.now() + seconds * 1000; performance.now() < due;) {
      if (yield* check) return
      yield* Effect.sleep("2 millis")
    }
    return yield* Effect.die(new Error(`it never came about: ${what}`))
  })
