import type { Simulation, SimulationResult } from "@effect-resilience/core/testing"

/**
 * Seconds from `from` until the first moment from which five seconds in a row are each good; infinite if that does not
 * come before `to`. Moments are 200 ms apart.
 */
export const settles = (
  result: SimulationResult,
  from: number,
  to: number,
  good: (second: Simulation.Summary) => boolean
): number => {
  const { requests } = result
  // Requests came in order, and nobody waits longer than this.
  const longest = requests.reduce((most, { at, end }) => end === Infinity ? most : Math.max(most, end - at), 0)
  const indexOf = (time: number) => {
    let low = 0
    for (let high = requests.length; low < high;) {
      const middle = (low + high) >> 1
      if ((requests[middle] as Simulation.Request).at < time) low = middle + 1
      else high = middle
    }
    return low
  }
  const isGood = (at: number) =>
    good(result.of(requests.slice(indexOf(at - longest), indexOf(at + 1000))).between(at, at + 1000))
  for (let at = from; at + 5000 <= to; at += 200) {
    if ([0, 1000, 2000, 3000, 4000].every((offset) => isGood(at + offset))) return (at - from) / 1000
  }
  return Infinity
}

export const mean = (values: ReadonlyArray<number>): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length

/** Of one seed: none with a single one. */
export const deviation = (values: ReadonlyArray<number>): number => {
  if (values.length < 2 || values.some((value) => !Number.isFinite(value))) return 0
  const middle = mean(values)
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1))
}
