/** How many of the last answers the server's time is reckoned from. */
const kept = 10

/** How much later than reckoned an answer may have been, in microseconds, before the server's clock was set back. */
const slack = 1000

/**
 * What is known of a server's clock: its time less ours, in microseconds, as of its last answers. Each is too small by
 * what the answer took to come, so the greatest is the best, and a deadline reckoned from it is never too late.
 */
export interface ServerClock {
  readonly offsets: ReadonlyArray<number>
}

/** @internal */
export const unknownClock: ServerClock = { offsets: [] }

/** Its time less ours; undefined while it has not said. @internal */
export const offsetOf = ({ offsets }: ServerClock): number | undefined =>
  offsets.length === 0 ? undefined : Math.max(...offsets)

/**
 * After it said that its time was `server` (µs), in an answer to what was sent at `sent` and came at `received` (ms).
 *
 * @internal
 */
export const heard = (clock: ServerClock, server: number, sent: number, received: number): ServerClock => {
  const offset = server - received * 1000
  const best = offsetOf(clock)
  // No answer can be that late: somebody set the clock back.
  if (best !== undefined && offset + (received - sent) * 1000 + slack < best) return { offsets: [offset] }
  return { offsets: [...clock.offsets, offset].slice(-kept) }
}
