import type { RateLimiterStore } from "@effect-resilience/core"
import * as Duration from "effect/Duration"

/** Milliseconds as a span, to the microsecond and never negative. @internal */
export const span = (millis: number): Duration.Duration =>
  millis > 0 ? Duration.nanos(BigInt(Math.ceil(millis * 1000)) * 1000n) : Duration.zero

/**
 * A decision made in this process. Its spans are worked out when they are read: to make them is dearer than to decide, and
 * whoever is let in reads none.
 *
 * @internal
 */
export class Told implements RateLimiterStore.Decision {
  constructor(
    readonly granted: number,
    readonly limit: number,
    readonly window: Duration.Duration,
    readonly remaining: number,
    private readonly waitMillis: number,
    private readonly resetMillis: number
  ) {}

  get wait(): Duration.Duration {
    return span(this.waitMillis)
  }

  get resetAfter(): Duration.Duration {
    return span(this.resetMillis)
  }
}
