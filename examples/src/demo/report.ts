/** What came of it. */
import type { Call, Side } from "./load.js"
import { isOverload, type Phase } from "./script.js"

/** What became of one side's calls while the dependency failed. */
export interface Summary {
  readonly calls: number
  /** Real answers, of all calls. */
  readonly successRate: number
  readonly freshWithinSecond: number
  readonly fallbackWithinSecond: number
  readonly p50: number
  readonly p99: number
  readonly sent: number
  /** Requests sent while the dependency was down. */
  readonly sentWhileDown: number
  /** Milliseconds after the dependency was back until 95 % of a second's calls had real answers within a second. */
  readonly millisToRecover: number
}

/** What became of one side's calls that began while there were too many. */
export interface Overload {
  readonly calls: number
  readonly critical: Part
  readonly normal: Part
  readonly sheddable: Part
  /** Real answers within a second, per second. */
  readonly goodput: number
  /** Of the real answers, however late. */
  readonly p99: number
  /** Fallback answers within a second: turned away at once. */
  readonly turnedAway: number
}

interface Part {
  readonly calls: number
  readonly freshWithinSecond: number
}

const latency = (call: Call, now: number) => (call.ended ?? now) - call.started

const quantile = (calls: ReadonlyArray<Call>, q: number, now: number) => {
  const sorted = calls.map((call) => latency(call, now)).sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * q) - 1)] ?? 0
}

const within = (answer: "fresh" | "fallback", now: number) => (call: Call) =>
  call.answer === answer && latency(call, now) <= 1000

const recovery = (calls: ReadonlyArray<Call>, back: number, now: number) => {
  for (let millis = 0; back + millis + 1000 <= now; millis += 50) {
    const second = calls.filter(({ started }) => started >= back + millis && started < back + millis + 1000)
    if (second.length > 0 && second.filter(within("fresh", now)).length >= 0.95 * second.length) return millis
  }
  return now - back
}

/** Of the calls that began while it failed; `back` is when it came back. */
export const summarize = (side: Side, back: number, now: number): Summary => {
  const calls = side.calls.filter(({ phase }) => !isOverload(phase))
  const sent = (isOf: (phase: Phase) => boolean) =>
    [...side.sent].reduce((all, [phase, n]) => isOf(phase) ? all + n : all, 0)
  return {
    calls: calls.length,
    successRate: calls.filter(({ answer }) => answer === "fresh").length / calls.length,
    freshWithinSecond: calls.filter(within("fresh", now)).length,
    fallbackWithinSecond: calls.filter(within("fallback", now)).length,
    p50: quantile(calls, 0.5, now),
    p99: quantile(calls, 0.99, now),
    sent: sent((phase) => !isOverload(phase)),
    sentWhileDown: sent(({ down }) => down),
    millisToRecover: recovery(calls, back, now)
  }
}

export const summarizeOverload = (side: Side, seconds: number, now: number): Overload => {
  const calls = side.calls.filter(({ phase }) => phase.mode === "crowded")
  const fresh = calls.filter(within("fresh", now))
  const part = (priority: Call["priority"]): Part => ({
    calls: calls.filter((call) => call.priority === priority).length,
    freshWithinSecond: fresh.filter((call) => call.priority === priority).length
  })
  return {
    calls: calls.length,
    critical: part("critical"),
    normal: part("normal"),
    sheddable: part("sheddable"),
    goodput: fresh.length / seconds,
    p99: quantile(calls.filter(({ answer }) => answer === "fresh"), 0.99, now),
    turnedAway: calls.filter(within("fallback", now)).length
  }
}

const millis = (n: number) => `${Math.round(n)} ms`

const layOut = (rows: ReadonlyArray<readonly [string, string, string]>): string =>
  rows.map(([name, a, b]) => `  ${name.padEnd(42)}${a.padStart(12)}${b.padStart(14)}`).join("\n")

export const table = (bare: Summary, protected_: Summary): string => {
  const percent = (rate: number) => `${(100 * rate).toFixed(1)} %`
  return layOut([
    ["WHILE IT FAILED", "bare", "protected"],
    ["calls", String(bare.calls), String(protected_.calls)],
    ["real answers, however late", percent(bare.successRate), percent(protected_.successRate)],
    ["real answers within 1 s", String(bare.freshWithinSecond), String(protected_.freshWithinSecond)],
    ["fallback answers within 1 s", String(bare.fallbackWithinSecond), String(protected_.fallbackWithinSecond)],
    ["half of all calls took at most (p50)", millis(bare.p50), millis(protected_.p50)],
    ["99 of 100 calls took at most (p99)", millis(bare.p99), millis(protected_.p99)],
    ["requests sent", String(bare.sent), String(protected_.sent)],
    ["requests sent while it was down", String(bare.sentWhileDown), String(protected_.sentWhileDown)],
    ["back to 95 % after", millis(bare.millisToRecover), millis(protected_.millisToRecover)]
  ])
}

export const overloadTable = (bare: Overload, protected_: Overload): string => {
  const of = ({ calls, freshWithinSecond }: Part) => `${freshWithinSecond} of ${calls}`
  return layOut([
    ["WITH 3 TIMES THE CALLS THAT IT CAN ANSWER", "bare", "protected"],
    ["critical calls answered within 1 s", of(bare.critical), of(protected_.critical)],
    ["normal calls answered within 1 s", of(bare.normal), of(protected_.normal)],
    ["sheddable calls answered within 1 s", of(bare.sheddable), of(protected_.sheddable)],
    ["useful answers a second (it can give 40)", bare.goodput.toFixed(1), protected_.goodput.toFixed(1)],
    ["99 of 100 answers took at most (p99)", millis(bare.p99), millis(protected_.p99)],
    ["turned away at once, with the fallback", String(bare.turnedAway), String(protected_.turnedAway)]
  ])
}

const missing = (checks: ReadonlyArray<readonly [string, boolean]>): ReadonlyArray<string> =>
  checks.flatMap(([name, ok]) => ok ? [] : [name])

/** What the protected side has to be better at, each with a margin. */
export const shortcomings = (bare: Summary, protected_: Summary): ReadonlyArray<string> =>
  missing([
    ["more real answers within a second (by 2 %)", protected_.freshWithinSecond >= 1.02 * bare.freshWithinSecond],
    ["a lower p99 (by half)", protected_.p99 <= 0.5 * bare.p99],
    ["fewer requests while the dependency is down (by half)", protected_.sentWhileDown <= 0.5 * bare.sentWhileDown],
    ["a shorter time to recover (by a quarter)", protected_.millisToRecover <= 0.75 * bare.millisToRecover]
  ])

/** The same for the overload. */
export const overloadShortcomings = (bare: Overload, protected_: Overload): ReadonlyArray<string> =>
  missing([
    ["90 % of the critical calls answered", protected_.critical.freshWithinSecond >= 0.9 * protected_.critical.calls],
    ["more useful answers under overload (half as many again)", protected_.goodput >= 1.5 * bare.goodput],
    ["a lower p99 of the answers under overload (by half)", protected_.p99 <= 0.5 * bare.p99]
  ])
