/** What the bench is to show. */
import type { BreakerCase } from "./breaker.js"
import type { BulkheadCase } from "./bulkhead.js"
import type { Leased } from "./checks.js"

export interface Found {
  /** Throughput over that of another, round by round. */
  readonly ratio: (name: string, peer: string, callers: number, keys: number) => ReadonlyArray<number>
  readonly roundTrips: (name: string, callers: number, keys: number) => ReadonlyArray<number>
  readonly leased: Leased
  readonly told: { readonly told: number; readonly false: number }
  readonly bulkheads: ReadonlyArray<BulkheadCase>
  readonly breaker: BreakerCase
}

export interface Target {
  readonly name: string
  readonly better: "more" | "less"
  readonly target: number
  readonly values: ReadonlyArray<number>
}

const trivial = "bare EVALSHA, trivial"

export const targets = ({ breaker, bulkheads, leased, ratio, roundTrips, told }: Found): ReadonlyArray<Target> => {
  const atLeast = (name: string, target: number, values: ReadonlyArray<number>): Target => ({
    name,
    better: "more",
    target,
    values
  })
  const atMost = (name: string, target: number, values: ReadonlyArray<number>): Target => ({
    name,
    better: "less",
    target,
    values
  })
  const trips = (name: string, callers: number, keys: number, target: number) =>
    atMost(`round trips: ${name}, ${callers} callers, ${keys} keys`, target, roundTrips(name, callers, keys))
  const over = (name: string, callers: number, keys: number, target: number, peer = trivial) =>
    atLeast(`throughput: ${name} / ${peer}, ${callers} callers, ${keys} keys`, target, ratio(name, peer, callers, keys))
  return [
    ...[1, 64, 256, 2048].map((callers) => over("direct", callers, 1000, 0.95, "bare EVALSHA, our script")),
    over("batched", 2048, 1000, 2.5),
    over("batched", 2048, 1, 10),
    ...[1, 1000].flatMap((keys) => [trips("batched", 2048, keys, 0.004), trips("batched", 256, keys, 0.008)]),
    over("leased", 256, 1000, 20),
    trips("leased", 256, 1000, 0.01),
    atLeast("leased: of the limit usable, four lessees of one key", 0.99, [leased.usable]),
    atMost("leased: overshoot in the worst second", 0.01, [leased.overshoot]),
    over("denied", 256, 1000, 30),
    atMost(`denied: false ones of ${told.told}`, 0, [told.false]),
    ...[...bulkheads, breaker].map((one) => atMost(`round trips: ${one.name}`, one.target, [one.measured]))
  ]
}
