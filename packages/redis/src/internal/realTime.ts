/*
 * Bare timers and the machine's monotonic clock. A server elsewhere answers in real time, whatever clock the program runs
 * under: `TestClock` must not stop the deadline of a command. All else waits by the `Clock` of its fiber.
 */

declare const setTimeout: (task: () => void, millis: number) => { readonly unref: () => void }
declare const clearTimeout: (handle: unknown) => void
declare const performance: { readonly now: () => number }

/** Milliseconds, with fractions, of a clock that never goes back. @internal */
export const realNow = (): number => performance.now()

/** Runs `task` once, at the earliest after so many milliseconds; returns what cancels it. Keeps no process alive. @internal */
export const later = (millis: number, task: () => void): () => void => {
  const handle = setTimeout(task, Math.ceil(millis))
  handle.unref()
  return () => clearTimeout(handle)
}
