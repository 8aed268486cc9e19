import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import * as option from "../options.js"
import type { Nanos } from "../time.js"
import { fromNanos, toNanos } from "../time.js"

/** So many calls in a window, and how many of them at once. @internal */
export interface Rate {
  readonly limit: number
  readonly window: Nanos
  readonly burst: number
}

/** What people write. @internal */
export type RateInput = string | {
  readonly limit: number
  readonly window: Duration.DurationInput
  readonly burst?: number | undefined
}

/** @internal */
export const algorithms = ["gcra", "token-bucket", "sliding-window", "sliding-log", "fixed-window"] as const

/** @internal */
export type AlgorithmName = typeof algorithms[number]

/** The most entries that the exact log keeps of a key. @internal */
export const longestLog = 10_000

const units: ReadonlyMap<string, Nanos> = new Map(
  ([
    [["ms", "milli", "millis", "millisecond", "milliseconds"], "1 milli"],
    [["s", "sec", "secs", "second", "seconds"], "1 second"],
    [["m", "min", "mins", "minute", "minutes"], "1 minute"],
    [["h", "hr", "hrs", "hour", "hours"], "1 hour"],
    [["d", "day", "days"], "1 day"],
    [["w", "week", "weeks"], "1 week"]
  ] as const).flatMap(([names, span]) => names.map((name) => [name, toNanos(span)] as const))
)

const must = (text: string): never => {
  throw new option.Requirement(text)
}

const form = `a rate such as "100/minute", "10/s", "5/30 seconds" or { limit, window }`

const count = (value: unknown, what: string): number =>
  Predicate.isNumber(value) && Number.isSafeInteger(value) && value >= 1 ? value : must(what)

const wholeLimit = `${form}, with a whole limit of at least 1`

const fromString = (text: string) => {
  const match = /^\s*([^/\s]+)\s*\/\s*(?:([0-9]+)\s*)?([a-zA-Z]+)\s*$/.exec(text)
  if (match === null) return must(form)
  const [, calls = "", times = "1", name = ""] = match
  const unit = units.get(name)
  if (!/^[0-9]+$/.test(calls)) return must(wholeLimit)
  if (unit === undefined) {
    return must(`${form}, with a unit of ms, s, m, h, d or w, or its name; a month or a year is so many days`)
  }
  const limit = count(Number(calls), wholeLimit)
  const window = unit * BigInt(count(Number(times), `${form}, with a whole window of at least 1`))
  return { limit, window, burst: undefined }
}

const parseWindow = option.parseDuration({ above: 0 })

const readWindow = (input: unknown): Duration.Duration => {
  try {
    return parseWindow(input as Duration.DurationInput)
  } catch {
    return must(
      `a rate whose window is a duration above 0 ms, such as "1 second" (its window is ${option.show(input)})`
    )
  }
}

const fromObject = (input: unknown) => {
  if (!Predicate.isRecord(input)) return must(form)
  const known = ["limit", "window", "burst"]
  if (Object.keys(input).some((key) => !known.includes(key))) return must(form)
  const burst = input["burst"]
  return {
    limit: count(input["limit"], wholeLimit),
    window: toNanos(readWindow(input["window"])),
    burst: burst === undefined ? undefined : count(burst, `${form}, with a whole burst of at least 1`)
  }
}

/** Whether an algorithm has a burst of its own: the others let `limit` through at once. @internal */
export const isBursty = (algorithm: AlgorithmName): boolean => algorithm === "gcra" || algorithm === "token-bucket"

/**
 * One rate or several, read. Whatever is not one is refused with a `Requirement`: a limiter that cannot read its rate
 * must not let anything through.
 *
 * @internal
 */
export const parseRates = (
  input: unknown,
  algorithm: AlgorithmName,
  burst?: number | undefined
): ReadonlyArray<Rate> => {
  const inputs: ReadonlyArray<unknown> = Array.isArray(input) ? input : [input]
  if (inputs.length === 0 || inputs.length > 16) return must(`${form}, or from 1 to 16 of them`)
  if (burst !== undefined && inputs.length > 1) {
    return must("one rate where the option burst is given: of several, each has its own { limit, window, burst }")
  }
  if (burst !== undefined && !isBursty(algorithm)) {
    return must(`absent for "${algorithm}", which has no burst ("gcra" and "token-bucket" have)`)
  }
  return inputs.map((one, i) => {
    if (!Array.isArray(input)) return parseRate(one, algorithm, burst)
    try {
      return parseRate(one, algorithm, burst)
    } catch (error) {
      if (!(error instanceof option.Requirement)) throw error
      return must(`at index ${i} ${error.text}`)
    }
  })
}

const parseRate = (input: unknown, algorithm: AlgorithmName, burst: number | undefined): Rate => {
  const rate = Predicate.isString(input) ? fromString(input) : fromObject(input)
  if (rate.burst !== undefined && !isBursty(algorithm)) {
    return must(`a rate without burst for "${algorithm}", which has none ("gcra" and "token-bucket" have)`)
  }
  const own = rate.burst ?? burst
  if (algorithm === "sliding-log" && rate.limit > longestLog) {
    return must(`a rate of at most ${longestLog} for "sliding-log", which remembers each call ("gcra" has no bound)`)
  }
  return { limit: rate.limit, window: rate.window, burst: own ?? rate.limit }
}

/** A rate for people. @internal */
export const showRate = ({ burst, limit, window }: Rate): string =>
  `${limit}/${Duration.format(fromNanos(window))}${burst === limit ? "" : ` (burst ${burst})`}`
