import type { RateLimiterStore } from "@effect-resilience/core"
import * as Duration from "effect/Duration"

/** A span in microseconds. Whole milliseconds compare equal to those that a person writes. */
const fromMicros = (micros: number): Duration.Duration =>
  micros <= 0
    ? Duration.zero
    : micros % 1000 === 0
    ? Duration.millis(micros / 1000)
    : Duration.nanos(BigInt(Math.round(micros)) * 1000n)

/**
 * A decision whose spans, in microseconds, become durations when they are read: to make them is dearer than to decide, and
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
    private readonly waitMicros: number,
    private readonly resetMicros: number,
    readonly reservation?: unknown
  ) {}

  get wait(): Duration.Duration {
    return fromMicros(this.waitMicros)
  }

  get resetAfter(): Duration.Duration {
    return fromMicros(this.resetMicros)
  }
}
