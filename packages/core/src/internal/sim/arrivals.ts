import type { Simulation } from "../../testing.js"
import type { Agenda } from "./agenda.js"
import type { SeededRandom } from "./random.js"

/** A rate that changes is looked at so often, in milliseconds. */
const step = 10

/** When the next request comes: a Poisson process, whose rate may change over time. */
const next = (rate: Simulation.Law, now: number, end: number, random: SeededRandom): number => {
  if (typeof rate === "number") return now + random.exponential() / rate * 1000
  // Arrivals that are expected until it comes, used up at the rate of each step.
  let left = random.exponential()
  for (let at = now; at < end;) {
    const until = (Math.floor(at / step + 1e-9) + 1) * step
    const expected = rate(at) * (until - at) / 1000
    if (expected >= left) return at + left / expected * (until - at)
    left -= expected
    at = until
  }
  return Infinity
}

/** Open loop: requests come whether or not the earlier ones were answered. @internal */
export const arrive = (
  agenda: Agenda,
  rate: Simulation.Law,
  end: number,
  random: SeededRandom,
  onRequest: () => void
): void => {
  const plan = (): void => {
    const at = next(rate, agenda.now, end, random)
    if (at >= end) return
    agenda.at(at, () => {
      onRequest()
      plan()
    })
  }
  plan()
}
