/** What came of it. */
import type { Call, Side } from "./load.js"
import type { Phase } from "./script.js"

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

const latency = (call: Call, now: number) => (call.ended ?? now) - call.started

const quantile = (sorted: ReadonlyArray<number>, q: number) =>
  sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * q) - 1)] ?? 0

const within = (answer: "fresh" | "fallback", now: number) => (call: Call) =>
  call.answer === answer && latency(call, now) <= 1000

const recovery = (calls: ReadonlyArray<Call>, back: number, now: number) => {
  for (let millis = 0; back + millis + 1000 <= now; millis += 50) {
    const second = calls.filter(({ started }) => started >= back + millis && started < back + millis + 1000)
    if (second.length > 0 && second.filter(within("fresh", now)).length >= 0.95 * second.length) return millis
  }
  return now - back
}

export const summarize = (side: Side, script: ReadonlyArray<Phase>, back: number, now: number): Summary => {
  const { calls, sent } = side
  const latencies = calls.map((call) => latency(call, now)).sort((a, b) => a - b)
  const sum = (numbers: ReadonlyArray<number | undefined>) => numbers.reduce<number>((all, n) => all + (n ?? 0), 0)
  return {
    calls: calls.length,
    successRate: calls.filter(({ answer }) => answer === "fresh").length / calls.length,
    freshWithinSecond: calls.filter(within("fresh", now)).length,
    fallbackWithinSecond: calls.filter(within("fallback", now)).length,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    sent: sum(sent),
    sentWhileDown: sum(script.map(({ down }, phase) => down ? sent[phase] : 0)),
    millisToRecover: recovery(calls, back, now)
  }
}

export const table = (bare: Summary, protected_: Summary): string => {
  const percent = (rate: number) => `${(100 * rate).toFixed(1)} %`
  const millis = (n: number) => `${Math.round(n)} ms`
  const rows: ReadonlyArray<readonly [string, string, string]> = [
    ["", "bare", "protected"],
    ["calls", String(bare.calls), String(protected_.calls)],
    ["real answers, however late", percent(bare.successRate), percent(protected_.successRate)],
    ["real answers within 1 s", String(bare.freshWithinSecond), String(protected_.freshWithinSecond)],
    ["fallback answers within 1 s", String(bare.fallbackWithinSecond), String(protected_.fallbackWithinSecond)],
    ["p50", millis(bare.p50), millis(protected_.p50)],
    ["p99", millis(bare.p99), millis(protected_.p99)],
    ["requests sent", String(bare.sent), String(protected_.sent)],
    ["requests sent while it was down", String(bare.sentWhileDown), String(protected_.sentWhileDown)],
    ["back to 95 % after", millis(bare.millisToRecover), millis(protected_.millisToRecover)]
  ]
  return rows.map(([name, a, b]) => `  ${name.padEnd(34)}${a.padStart(12)}${b.padStart(14)}`).join("\n")
}

/** What the protected side has to be better at, each with a margin. */
export const shortcomings = (bare: Summary, protected_: Summary): ReadonlyArray<string> => {
  const checks: ReadonlyArray<readonly [string, boolean]> = [
    ["more real answers within a second (by 2 %)", protected_.freshWithinSecond >= 1.02 * bare.freshWithinSecond],
    ["a lower p99 (by half)", protected_.p99 <= 0.5 * bare.p99],
    ["fewer requests while the dependency is down (by half)", protected_.sentWhileDown <= 0.5 * bare.sentWhileDown],
    ["a shorter time to recover (by a quarter)", protected_.millisToRecover <= 0.75 * bare.millisToRecover]
  ]
  return checks.flatMap(([name, ok]) => ok ? [] : [name])
}
