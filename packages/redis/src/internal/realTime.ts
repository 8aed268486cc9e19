/*
 * Bare timers and the machine's monotonic clock. A server elsewhere answers in real time, whatever clock the program runs
 * under: `TestClock` must not stop the deadline of a command. All else waits by the `Clock` of its fiber.
 */

interface Handle {
  readonly unref: () => void
}
declare const setTimeout: (task: () => void, millis: number) => Handle
declare const clearTimeout: (handle: Handle) => void
declare const setImmediate: (task: () => void) => void
declare const performance: { readonly now: () => number }
declare const queueMicrotask: (task: () => void) => void

/** Milliseconds, with fractions, of a clock that never goes back. @internal */
export const realNow = (): number => performance.now()

const after = (millis: number, task: () => void, keepsAlive: boolean): () => void => {
  const handle = setTimeout(task, Math.ceil(millis))
  if (!keepsAlive) handle.unref()
  return () => clearTimeout(handle)
}

/** Runs `task` once, at the earliest after so many milliseconds; returns what cancels it. Keeps no process alive. @internal */
export const later = (millis: number, task: () => void): () => void => after(millis, task, false)

/** The same for what somebody waits for: the process lives until then. @internal */
export const awaited = (millis: number, task: () => void): () => void => after(millis, task, true)

/** Cancels a timer that somebody else set. @internal */
export const cancelTimer = (handle: unknown): void => clearTimeout(handle as Handle)

/** Runs `task` when what has come meanwhile was read: after a standstill of this process the timers are first. @internal */
export const afterReading = (task: () => void): void => setImmediate(task)

/** Runs `task` after what is running now. @internal */
export const soon = (task: () => void): void => queueMicrotask(task)
