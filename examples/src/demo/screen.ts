/** What a person sees: a line per second, and each change of the circuit's state as it happens. */
import { Effect } from "effect"
import type { Call, Side } from "./load.js"
import type { Phase } from "./script.js"

const bar = (fresh: number, fallback: number, failed: number, waiting: number) => {
  const all = Math.max(1, fresh + fallback + failed + waiting)
  const cells = (n: number, sign: string) => sign.repeat(Math.round(20 * n / all))
  return `${cells(fresh, "█")}${cells(fallback, "▒")}${cells(failed, "x")}${cells(waiting, ".")}`.slice(0, 20).padEnd(
    20
  )
}

const lastSecond = (side: Side, now: number, isOf: (call: Call) => boolean) => {
  const calls = side.calls.filter((call) => call.started > now - 2000 && call.started <= now - 1000 && isOf(call))
  const count = (answer: string | undefined) => calls.filter((call) => call.answer === answer).length
  return bar(count("fresh"), count("fallback"), count("failed"), count(undefined))
}

export const say = (line: string) =>
  Effect.sync(() => {
    process.stderr.write(`${line}\n`)
  })

export const legend =
  "  █ real answer   ▒ fallback   x failed   . still waiting (calls that began one to two seconds ago)"

/**
 * One line: what the dependency did, what the calls of that second came to on both sides, and what is in flight now. A
 * second one for the critical calls, where they fare better than the others.
 */
export const progress = (phase: Phase, second: number, bare: Side, protected_: Side, state: string) =>
  Effect.suspend(() => {
    const now = Date.now()
    const waiting = (side: Side) => String(side.calls.filter(({ ended }) => ended === undefined).length).padStart(4)
    const line = (start: string, isOf: (call: Call) => boolean, after: (side: Side) => string) =>
      `${start.padEnd(43)} bare ${lastSecond(bare, now, isOf)} ${after(bare)}   ` +
      `protected ${lastSecond(protected_, now, isOf)} ${after(protected_)}`
    const all = line(`${String(second).padStart(3)} s  ${phase.name}`, () => true, (side) => `${waiting(side)} open`)
    const critical = line("         its critical calls", ({ priority }) => priority === "critical", () => " ".repeat(9))
    return say(`${all}   ${state}${phase.mode === "crowded" ? `\n${critical.trimEnd()}` : ""}`)
  })
