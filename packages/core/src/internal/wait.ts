import type * as Fiber from "effect/Fiber"
import { deadlineOf } from "./ambient.js"
import type { Nanos } from "./time.js"
import { clockOf, forever } from "./time.js"
import { schedule } from "./timer.js"

/**
 * Tells a fiber that waits when it has waited for `span`, or when its deadline has come before; returns what cancels it.
 * A deadline whose region ends while the fiber waits is followed by the next one, or by none.
 *
 * @internal
 */
export const scheduleWait = (
  fiber: Fiber.RuntimeFiber<unknown, unknown>,
  span: Nanos,
  expire: (byDeadline: boolean) => void
): () => void => {
  const clock = clockOf(fiber)
  const start = clock.unsafeCurrentTimeNanos()
  const arm = (waited: Nanos): () => void => {
    const left = span >= forever ? forever : span - waited
    const deadline = deadlineOf(fiber)
    const untilDeadline = deadline === undefined ? forever : deadline.at - start - waited
    if (untilDeadline >= left) return schedule(clock, left, () => expire(false))
    return schedule(clock, untilDeadline, () => {
      if (deadlineOf(fiber) === deadline) expire(true)
      else cancel = arm(clock.unsafeCurrentTimeNanos() - start)
    })
  }
  let cancel = arm(0n)
  return () => cancel()
}
