import * as Duration from "effect/Duration"

/**
 * When to come back for a key that is in flight: after as long as it has been held since its last sign of life, its begin or
 * the renewal of its lease, and no later than the lease ends. A handler is asked about twice as rarely each time, and the key
 * of a process that died when it is free.
 *
 * @internal
 */
export const waitFor = (
  leaseLeft: Duration.Duration | undefined,
  { lease, retryAfter }: { readonly lease: Duration.Duration; readonly retryAfter: Duration.Duration }
): { readonly retryAfter: Duration.Duration; readonly leaseLeft?: Duration.Duration } => {
  if (leaseLeft === undefined) return { retryAfter }
  const held = Duration.subtract(lease, leaseLeft)
  return { retryAfter: Duration.max(retryAfter, Duration.min(held, leaseLeft)), leaseLeft }
}
