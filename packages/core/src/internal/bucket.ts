import type { Nanos } from "./time.js"

/** @internal */
export interface BucketConfig {
  readonly maxTokens: number
  readonly tokensPerSuccess: number
  readonly minPerSecond: number
}

/** Where a token came from, and where a refund puts it. @internal */
export type Source = "tokens" | "floor"

/**
 * The tokens of a retry budget: successes earn a part of one, each retry spends one. Beside them a floor, which fills by
 * time and lets a client with little traffic retry at all.
 *
 * It is mutable, owned by the `Ref` that holds it, and touched in one synchronous step at a time.
 *
 * Source: the token bucket of Finagle (`RetryBudget`) with gRPC's accounting per success; Envoy's reserved retries for
 * the floor.
 *
 * @internal
 */
export class Bucket {
  tokens: number
  granted = 0
  denied = 0
  refunded = 0
  private floor: number
  private filled: Nanos | undefined

  constructor(readonly config: BucketConfig) {
    this.tokens = config.maxTokens
    this.floor = config.minPerSecond
  }

  deposit(): void {
    if (this.tokens < this.config.maxTokens) {
      this.tokens = Math.min(this.config.maxTokens, this.tokens + this.config.tokensPerSuccess)
    }
  }

  withdraw(now: Nanos): Source | undefined {
    if (this.tokens >= 1 - slack) {
      this.tokens = Math.max(0, this.tokens - 1)
      this.granted++
      return "tokens"
    }
    this.fill(now)
    if (this.floor >= 1 - slack) {
      this.floor = Math.max(0, this.floor - 1)
      this.granted++
      return "floor"
    }
    this.denied++
    return undefined
  }

  refund(source: Source): void {
    this.refunded++
    if (source === "tokens") this.tokens = Math.min(this.config.maxTokens, this.tokens + 1)
    else this.floor = Math.min(this.config.minPerSecond, this.floor + 1)
  }

  reset(): void {
    this.tokens = this.config.maxTokens
    this.floor = this.config.minPerSecond
  }

  private fill(now: Nanos): void {
    const { minPerSecond } = this.config
    if (this.filled !== undefined && minPerSecond > 0) {
      this.floor = Math.min(Math.max(1, minPerSecond), this.floor + Number(now - this.filled) / 1e9 * minPerSecond)
    }
    this.filled = now
  }
}

/** Ten tenths are a token, although they do not add up to one in floating point. */
const slack = 1e-9
