import type { RedisUnavailableError } from "../RedisUnavailableError.js"

/** That a server is there, and refuses what is written. @internal */
export interface Refusal {
  /** What it said last. */
  readonly error: RedisUnavailableError
  /** Since when, in milliseconds. */
  readonly since: number
  readonly told: boolean
  /** How often in a row it has taken what was written since. */
  readonly taken: number
}

/** A server that changes sooner, as at a failover, is not worth a word. */
const tellAfter = 500

/** So many in a row end it: memory that is nearly full has room for one and not for the next. */
const wellAfter = 3

/** After it refused. @internal */
export const afterRefusal = (
  refusal: Refusal | undefined,
  error: RedisUnavailableError,
  now: number
): Refusal => {
  const { since, told } = refusal ?? { since: now, told: false }
  return { error, since, told: told || now - since >= tellAfter, taken: 0 }
}

/** After it took what was written; undefined where that is over. @internal */
export const afterTaken = (refusal: Refusal | undefined): Refusal | undefined =>
  refusal === undefined || refusal.taken + 1 >= wellAfter ? undefined : { ...refusal, taken: refusal.taken + 1 }
