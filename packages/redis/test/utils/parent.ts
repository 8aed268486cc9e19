import { Effect, Queue } from "effect"

/* For the files that `Worker` runs: what the test tells them, and what they tell the test. */

const inbox = Effect.runSync(Queue.unbounded<unknown>())
process.on("message", (message) => void Queue.unsafeOffer(inbox, message))

/** The next message of the test: those that came meanwhile have waited. */
export const told = Queue.take(inbox)

export const tell = (message: unknown): void => void process.send?.(message)

/** Says a last word and ends the conversation when it is on its way: to end it sooner may lose what was said before. */
export const leave = (message: unknown): void => void process.send?.(message, () => process.disconnect())
