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
  const seconds = result.every(1000, 200)
  const goods = seconds.map(good)
  for (let i = Math.round(from / 200); i * 200 + 5000 <= to; i++) {
    if ([0, 5, 10, 15, 20].every((offset) => goods[i + offset])) return i / 5 - from / 1000
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
