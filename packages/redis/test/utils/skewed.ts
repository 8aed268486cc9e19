import { RedisConnection } from "@effect-resilience/redis"
import { Duration, Effect, TestClock } from "effect"
import { Skew } from "../../src/internal/skew.js"

/**
 * Connections to a server whose clock a test moves. It begins a moment after the full hour, so that a test is in one
 * window of the clock.
 */
export class SkewedClock {
  micros = 3_600_000_000 - (Date.now() * 1000) % 3_600_000_000 + 5000

  readonly connect = (options: RedisConnection.Options) =>
    RedisConnection.make({ commandTimeout: "2 seconds", socketTimeout: "2 seconds", ...options }).pipe(
      Effect.provideService(Skew, () => this.micros),
      Effect.orDie
    )

  /** The server's clock goes on; back, where the span is negative. */
  move(micros: number): void {
    this.micros += Math.ceil(micros)
  }

  /** The clocks of the server and of the program go on. */
  readonly advance = (span: Duration.DurationInput): Effect.Effect<void> =>
    Effect.suspend(() => {
      this.move(Duration.toMillis(span) * 1000)
      return TestClock.adjust(span)
    })
}
