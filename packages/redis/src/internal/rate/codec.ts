import type { RateLimiterStore } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import type { RedisConnection } from "../../RedisConnection.js"
import type { Head, Plan, Rate } from "./plan.js"
import { Told } from "./told.js"

/**
 * How a request is said to `decideScript`, and what it answers. One call of the script decides for many entries, in their
 * order and as one step; their keys have to be of one slot, and no more than `maxKeys`. A key may be in several of them.
 *
 * ```
 * const keys = keysOf(prefix, plan, request)
 * const entry = encode(keys, plan, request)              // or encode(…, times): so many callers of one request at once
 * redis.unsafeRun(decideScript, ...batch([entry, …]), …)
 * const verdict = decode(entry, repliesOf(reply)[0])
 * decisionOf(entry, verdict, 0)                           // what the first of the callers is told
 * ```
 */

/** Keys in one call: Lua takes no more as arguments of a function. @internal */
export const maxKeys = 4000

/** One request, by one or by several callers at once. @internal */
export interface Entry {
  readonly plan: Plan
  readonly mode: RateLimiterStore.Request["mode"]
  readonly cost: number
  /** Callers that each ask for the cost. With `"atMost"` there is one, who takes what there is of it. */
  readonly times: number
  /** Microseconds. */
  readonly maxWait: number
  readonly keys: ReadonlyArray<string>
  /** What entries that are decided alike have in common: they may share it if it is the same text. */
  readonly head: Head
  /** How much is asked of this one, where its head leaves that open. */
  readonly amount: number | undefined
}

/** What was decided for an entry, in numbers. Times are microseconds. @internal */
export interface Verdict {
  /** Callers that were let through, the first of them; with `"atMost"` what was taken, with `"peek"` what would be. */
  readonly granted: number
  /** Of the tightest rate, after all that was granted. */
  readonly rate: Rate
  readonly remaining: number
  readonly resetAfter: number
  /** Until what was reserved may be used, or until one more caller with that cost may be let through. */
  readonly wait: number
  readonly reservation: Reservation | undefined
}

/** What takes a reservation back: for how many microseconds it may be, and what the key was before and after. @internal */
export interface Reservation {
  readonly wait: number
  readonly before: string
  readonly after: string
  /** It is given back once. */
  back: boolean
}

/** What tells the hash tag and its parts apart is written as `%xx`. */
const escape = (text: string, special: RegExp): string => special.test(text) ? text.replace(special, hex) : text
const hex = (char: string): string => `%${char.charCodeAt(0).toString(16)}`
const inInstance = /[%:}]/
const inKey = /[%}]/

/** What all keys of a target begin with; one slot of a cluster has them all. @internal */
export const base = (prefix: string, { instance, key }: RateLimiterStore.Target): string =>
  `${prefix}rl:{${escape(instance, inInstance)}:${escape(key, inKey)}}`

/** The keys of a log: one for each window, and one with the names of all windows that it has. @internal */
export const logKeys = (prefix: string, target: RateLimiterStore.Target, windows: ReadonlyArray<string>) => {
  const names = `${base(prefix, target)}l`
  return [...windows.map((window) => `${names}:${window}`), names]
}

/** The keys of a target. @internal */
export const keysOf = (prefix: string, plan: Plan, target: RateLimiterStore.Target): ReadonlyArray<string> =>
  plan.kind === "l"
    ? logKeys(prefix, target, plan.rates.map(({ name }) => name))
    : [`${base(prefix, target)}${plan.kind}`]

/** The rates, as the scripts read them. @internal */
export const rateArgs = ({ rates }: Plan): ReadonlyArray<string | number> => [
  rates.length,
  ...rates.flatMap(({ cap, micros, name, parts, price }) => [name, micros, price, parts, cap])
]

/** Of what cannot be said in whole numbers: longer than any wait. */
const longestWait = 2 ** 50

const microsOf = (duration: Duration.Duration): number =>
  Math.min(longestWait, Math.floor(Duration.toMillis(duration) * 1000))

const letters = { all: "t", atMost: "n", peek: "p", reserve: "r" } as const

/** One rate by `gcra`: the shortest way to say it, and the fastest script. */
const isPlain = ({ kind, rates }: Plan): boolean => kind === "g" && rates.length === 1

const headOf = (plan: Plan, letter: string, unit: number, maxWait: number): Head => {
  const { first } = plan
  if (!isPlain(plan)) return { before: ["s", plan.kind, letter, maxWait, unit], after: rateArgs(plan), maxWait }
  const { cap, name, parts, price } = first
  return {
    before: [letter, `${name}/${price}/${parts}/${cap}:`, parts, price * cap, price * unit],
    after: letter === "r" ? [maxWait] : [],
    maxWait
  }
}

const maxHeads = 256
const modes = "tnpr"

/** One for each mode and cost: the longest wait is another with each deadline. */
const findHead = (plan: Plan, letter: string, unit: number, maxWait: number): Head => {
  const { heads } = plan
  const name = unit * modes.length + modes.indexOf(letter)
  const known = heads.get(name)
  if (known?.maxWait === maxWait) return known
  if (heads.size >= maxHeads) heads.clear()
  const head = headOf(plan, letter, unit, maxWait)
  heads.set(name, head)
  return head
}

/**
 * A request for these keys as an entry: of `times` callers at once, if it is for all or nothing. Without that of one, in the
 * form that is read fastest; to go with others it is said, so that all have one head.
 *
 * @internal
 */
export const encode = (
  keys: ReadonlyArray<string>,
  plan: Plan,
  request: RateLimiterStore.Request,
  times?: number
): Entry => {
  const { mode } = request
  const atMost = mode === "atMost"
  const counted = mode === "all" && times !== undefined
  const maxWait = mode === "reserve" ? microsOf(request.maxWait) : 0
  return {
    plan,
    mode,
    cost: request.cost,
    times: counted ? times : 1,
    maxWait,
    keys,
    head: findHead(plan, counted ? "n" : letters[mode], atMost ? 1 : request.cost, maxWait),
    amount: atMost ? request.cost : counted ? times : undefined
  }
}

/** The keys and arguments of one call for all of them. Entries with one head next to each other share it. @internal */
export const batch = (
  entries: ReadonlyArray<Entry>
): readonly [keys: ReadonlyArray<string>, args: ReadonlyArray<string | number>] => {
  const keys: Array<string> = []
  const args: Array<string | number> = []
  let head: Head | undefined
  let count = 0
  let place = 0
  for (const entry of entries) {
    if (entry.head !== head) {
      if (head !== undefined) args[place] = count
      head = entry.head
      count = 0
      args.push(...head.before)
      place = args.length
      args.push(0, ...head.after)
    }
    count++
    for (const key of entry.keys) keys.push(key)
    if (entry.amount !== undefined) args.push(entry.amount)
  }
  if (head !== undefined) args[place] = count
  return [keys, args]
}

/** One rate by `gcra`: all follows from what the key owed before, in parts of a microsecond. */
const fromDebt = (entry: Entry, debt: number, before: string, after: string): Verdict => {
  const { cost, maxWait, mode, plan: { first: rate }, times } = entry
  const { cap, parts, price } = rate
  const tolerance = price * cap
  const atMost = mode === "atMost"
  const unit = atMost ? price : price * cost
  const late = Math.max(0, Math.ceil((debt + unit - tolerance) / parts))
  const granted = mode === "reserve" || mode === "peek"
    ? Number(late <= maxWait)
    : Math.max(0, Math.min(atMost ? cost : times, Math.floor((tolerance - debt) / unit)))
  const owed = mode === "peek" ? debt : debt + granted * unit
  return {
    granted: mode === "peek" ? granted * cost : granted,
    rate,
    remaining: Math.max(0, Math.floor((tolerance - owed) / price)),
    resetAfter: Math.ceil(owed / parts),
    wait: mode === "reserve" || mode === "peek" ? late : Math.max(0, Math.ceil((owed + unit - tolerance) / parts)),
    reservation: mode === "reserve" && granted > 0 ? { wait: late, before, after, back: false } : undefined
  }
}

const fromList = (entry: Entry, reply: ReadonlyArray<RedisConnection.Reply>): Verdict => {
  const { cost, mode, plan: { first, rates } } = entry
  const granted = Number(reply[0])
  const wait = Number(reply[1])
  let tightest = { rate: first, remaining: Infinity, resetAfter: 0 }
  rates.forEach((rate, i) => {
    const remaining = Number(reply[2 + 2 * i])
    const resetAfter = Number(reply[3 + 2 * i])
    if (remaining > tightest.remaining) return
    if (remaining === tightest.remaining && resetAfter <= tightest.resetAfter) return
    tightest = { rate, remaining, resetAfter }
  })
  return {
    ...tightest,
    granted: mode === "peek" ? granted * cost : granted,
    wait,
    reservation: mode === "reserve" && granted > 0
      ? {
        wait,
        before: String(reply[2 + 2 * rates.length] ?? ""),
        after: String(reply[3 + 2 * rates.length] ?? ""),
        back: false
      }
      : undefined
  }
}

/** The answers to the entries of a call, in their order. @internal */
export const repliesOf = (reply: RedisConnection.Reply): ReadonlyArray<RedisConnection.Reply> =>
  typeof reply === "number" ? [reply] : reply as ReadonlyArray<RedisConnection.Reply>

/** What the script answered to an entry. @internal */
export const decode = (entry: Entry, reply: RedisConnection.Reply): Verdict => {
  if (typeof reply === "number") return fromDebt(entry, reply, "", "")
  const list = reply as ReadonlyArray<RedisConnection.Reply>
  if (!isPlain(entry.plan)) return fromList(entry, list)
  const [debt, before, after] = list
  return fromDebt(entry, Number(debt), String(before), String(after))
}

/** What one of the callers is told, counted from 0. @internal */
export const decisionOf = (entry: Entry, verdict: Verdict, caller = 0): RateLimiterStore.Decision => {
  const { cost, mode } = entry
  const { granted, rate, remaining, reservation, resetAfter, wait } = verdict
  const several = mode === "all"
  const through = several ? caller < granted : granted > 0
  return new Told(
    several || mode === "reserve" ? (through ? cost : 0) : granted,
    rate.limit,
    rate.window,
    // Those who came before the last one saw what it took.
    several && through ? remaining + (granted - 1 - caller) * cost : remaining,
    through && reservation === undefined ? 0 : wait,
    resetAfter,
    reservation
  )
}
