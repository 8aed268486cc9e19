import type { RateLimiterStore } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** The most entries that the exact log keeps of a key. */
const longestLog = 10_000

/** Numbers of a script are doubles: whole up to here, with room for a product by two. */
const exact = 2 ** 51

/** Microseconds in which the longest rate that can be kept is whole again: some 35 years. */
const longest = 2 ** 50

/** How a state is kept: `gcra` is the token bucket too. @internal */
export type Kind = "g" | "w" | "l" | "f"

const kinds: Readonly<Record<RateLimiterStore.Algorithm, Kind>> = {
  gcra: "g",
  "token-bucket": "g",
  "sliding-window": "w",
  "sliding-log": "l",
  "fixed-window": "f"
}

/** A rate in whole numbers that a script is exact with. @internal */
export interface Rate {
  readonly limit: number
  readonly window: Duration.Duration
  /** What may be taken at once. */
  readonly cap: number
  /** The window in nanoseconds, as it names the rate. */
  readonly name: string
  /** The window in whole microseconds, rounded up. */
  readonly micros: number
  /** Of `gcra`: what one call costs, in parts of a microsecond, and how many parts that has. */
  readonly price: number
  readonly parts: number
}

/** The rates of a target, made ready. @internal */
export interface Plan {
  readonly kind: Kind
  readonly rates: ReadonlyArray<Rate>
  readonly first: Rate
  /** The shortest window in microseconds. */
  readonly shortest: number
  /** The heads of its entries by mode and cost, which are met again and again. */
  readonly heads: Map<number, Head>
}

/** What entries that are decided alike have in common. @internal */
export interface Head {
  readonly before: ReadonlyArray<string | number>
  /** Between the two is the number of entries. */
  readonly after: ReadonlyArray<string | number>
  /** Of reservations, in microseconds. */
  readonly maxWait: number
}

/** A rate that cannot be kept by a script. @internal */
export class UnfitRateError extends Error {}

/** What was thrown for the want of a plan, as an effect. @internal */
export const unfit = (error: unknown): Effect.Effect<never, UnfitRateError> =>
  error instanceof UnfitRateError ? Effect.fail(error) : Effect.die(error)

const gcd = (a: bigint, b: bigint): bigint => b === 0n ? a : gcd(b, a % b)

const ceilDiv = (a: bigint, b: bigint): bigint => (a + b - 1n) / b

const nanosOf = (window: Duration.Duration): bigint => {
  const nanos = Duration.toNanos(window)
  return nanos._tag === "Some" ? nanos.value : BigInt(longest) * 2000n
}

/**
 * The cost of a call as a fraction, `window / limit = price / parts` microseconds. Where a full bucket in such parts is too
 * large for a double, the price is rounded up: slower by less than `burst` parts in a million of a thousand million.
 */
const priceOf = (nanos: bigint, limit: number, burst: number) => {
  const parts = BigInt(limit) * 1000n
  const divisor = gcd(nanos, parts)
  const price = nanos / divisor
  const scale = parts / divisor
  if (price * BigInt(burst) <= BigInt(exact) && scale <= BigInt(exact)) {
    return { price: Number(price), parts: Number(scale) }
  }
  // So many parts that a full bucket still fits.
  const full = ceilDiv(nanos * BigInt(burst), parts)
  const fits = BigInt(exact) / (full + 1n) / 2n + 1n
  return { price: Number(ceilDiv(nanos * fits, parts)), parts: Number(fits) }
}

const compile = (algorithm: RateLimiterStore.Algorithm, { burst, limit, window }: RateLimiterStore.Rate): Rate => {
  const kind = kinds[algorithm]
  const nanos = nanosOf(window)
  const micros = Number(ceilDiv(nanos, 1000n))
  const cap = kind === "g" ? burst : limit
  const show = `${limit}/${Duration.format(window)}${kind === "g" ? ` (burst ${burst})` : ""}`
  if (kind === "l" && limit > longestLog) {
    throw new UnfitRateError(
      `the rate ${show} is too large for "sliding-log", which remembers each call: at most ${longestLog} ("gcra" has no bound)`
    )
  }
  const refill = kind === "g" ? nanos * BigInt(burst) / BigInt(limit) / 1000n : BigInt(micros) * 2n
  if (refill > BigInt(longest) || limit > longest) {
    throw new UnfitRateError(`the rate ${show} takes longer than 35 years to be whole again: a store cannot keep it`)
  }
  return { limit, window, cap, name: String(nanos), micros, ...priceOf(nanos, limit, cap) }
}

/** Of rates that count the same calls the strictest, in the place of the first. */
const distinct = (kind: Kind, rates: ReadonlyArray<Rate>): ReadonlyArray<Rate> => {
  const byName = new Map<string, Rate>()
  for (const rate of rates) {
    const name = kind === "g" ? `${rate.name} ${rate.limit}` : rate.name
    const known = byName.get(name)
    if (known === undefined || rate.cap < known.cap) byName.set(name, rate)
  }
  return [...byName.values()]
}

const planOf = ({ algorithm, rates }: RateLimiterStore.Target): Plan => {
  const compiled = distinct(kinds[algorithm], rates.map((rate) => compile(algorithm, rate)))
  const [first] = compiled
  if (first === undefined) throw new UnfitRateError("a target without rates: at least one is needed")
  return {
    kind: kinds[algorithm],
    rates: compiled,
    first,
    shortest: Math.min(...compiled.map(({ micros }) => micros)),
    heads: new Map()
  }
}

/** Plans held by their text: rates come with each request. */
const maxPlans = 1024

/** Plans by what they are made of: the same object again for the same rates. @internal */
export class Plans {
  private readonly byRates = new WeakMap<ReadonlyArray<RateLimiterStore.Rate>, Map<string, Plan>>()
  private readonly byText = new Map<string, Plan>()

  /** Throws `UnfitRateError`. */
  of(target: RateLimiterStore.Target): Plan {
    // A limiter passes the same list each time.
    const known = this.byRates.get(target.rates)?.get(target.algorithm)
    if (known !== undefined) return known
    const plan = this.find(target)
    const own = this.byRates.get(target.rates) ?? new Map<string, Plan>()
    this.byRates.set(target.rates, own.set(target.algorithm, plan))
    return plan
  }

  private find(target: RateLimiterStore.Target): Plan {
    const text = `${target.algorithm} ${
      target.rates.map(({ burst, limit, window }) => `${limit}/${nanosOf(window)}/${burst}`).join()
    }`
    let plan = this.byText.get(text)
    if (plan === undefined) {
      plan = planOf(target)
      if (this.byText.size >= maxPlans) this.byText.clear()
      this.byText.set(text, plan)
    }
    return plan
  }
}
