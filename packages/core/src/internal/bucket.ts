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
 * Source: the token bucket of Finagle (`RetryBudget`) with gRPC's accounting per success; Envoy's reserved retries for
 * the floor.
 *
 * @internal
 */
export interface Bucket {
  readonly tokens: number
  readonly floor: number
  /** When the floor was filled up last: it starts full. */
  readonly filled: Nanos | undefined
  readonly granted: number
  readonly denied: number
  readonly refunded: number
}

/** Ten tenths are a token, although they do not add up to one in floating point. */
const slack = 1e-9

/** A burst of the floor is what it gives in a second, but never less than one retry. */
const floorCap = ({ minPerSecond }: BucketConfig): number => minPerSecond === 0 ? 0 : Math.max(1, minPerSecond)

/** @internal */
export const full = (config: BucketConfig): Bucket => ({
  tokens: config.maxTokens,
  floor: floorCap(config),
  filled: undefined,
  granted: 0,
  denied: 0,
  refunded: 0
})

/** Whether a success would change nothing. @internal */
export const isFull = (config: BucketConfig, bucket: Bucket): boolean => bucket.tokens >= config.maxTokens

/** A call succeeded. @internal */
export const deposit = (config: BucketConfig, bucket: Bucket): Bucket =>
  isFull(config, bucket)
    ? bucket
    : { ...bucket, tokens: Math.min(config.maxTokens, bucket.tokens + config.tokensPerSuccess) }

/** The floor, filled for the time that has passed. */
const fill = (config: BucketConfig, { filled, floor }: Bucket, now: Nanos): number =>
  filled === undefined || now <= filled
    ? floor
    : Math.min(floorCap(config), floor + Number(now - filled) / 1e9 * config.minPerSecond)

/** Takes a token for a retry, from what was earned while there is some, else from the floor. @internal */
export const withdraw = (
  config: BucketConfig,
  bucket: Bucket,
  now: Nanos
): readonly [Source | undefined, Bucket] => {
  if (bucket.tokens >= 1 - slack) {
    return ["tokens", { ...bucket, tokens: Math.max(0, bucket.tokens - 1), granted: bucket.granted + 1 }]
  }
  if (config.minPerSecond === 0) return [undefined, { ...bucket, denied: bucket.denied + 1 }]
  const floor = fill(config, bucket, now)
  const filled = bucket.filled === undefined || now > bucket.filled ? now : bucket.filled
  return floor >= 1 - slack
    ? ["floor", { ...bucket, floor: Math.max(0, floor - 1), filled, granted: bucket.granted + 1 }]
    : [undefined, { ...bucket, floor, filled, denied: bucket.denied + 1 }]
}

/** Gives a token back to where it came from. @internal */
export const refund = (config: BucketConfig, bucket: Bucket, source: Source): Bucket => ({
  ...bucket,
  refunded: bucket.refunded + 1,
  ...(source === "tokens"
    ? { tokens: Math.min(config.maxTokens, bucket.tokens + 1) }
    : { floor: Math.min(floorCap(config), bucket.floor + 1) })
})

/** Filled up by an operator; what was counted stays. @internal */
export const reset = (config: BucketConfig, bucket: Bucket): Bucket => ({
  ...bucket,
  tokens: config.maxTokens,
  floor: floorCap(config)
})

/** Retries that would be let through now. @internal */
export const available = (config: BucketConfig, bucket: Bucket, now: Nanos): number =>
  bucket.tokens + fill(config, bucket, now)
