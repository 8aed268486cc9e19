import { Effect } from "effect"

/** So many operations that do nothing: what follows them begins so much later in the time slice of its fiber. */
export const pad = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))

/** Lets other fibers run, so many times. */
export const yields = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.zipRight(Effect.yieldNow(), yields(n - 1))

const turn = Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))

/** Turns of the event loop: answers of Redis come between them. */
export const turns = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.zipRight(turn, turns(n - 1))

/** The event loop is busy, as by a collection of garbage. */
export const stall = (millis: number): Effect.Effect<void> =>
  Effect.sync(() => {
    for (const end = performance.now() + millis; performance.now() < end;);
  })
