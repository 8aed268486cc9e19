import type { RateLimiterStore } from "@effect-resilience/core"
import type * as Duration from "effect/Duration"
import { fromMicros } from "./codec.js"

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
    private readonly resetMicros: number
  ) {}

  get wait(): Duration.Duration {
    return fromMicros(this.waitMicros)
  }

  get resetAfter(): Duration.Duration {
    return fromMicros(this.resetMicros)
  }
}
