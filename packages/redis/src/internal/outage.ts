import type { Reason } from "./failure.js"

/**
 * Whether a server is there, as far as its answers tell. While it is `Down` nobody asks it but one probe at a time.
 *
 * @internal
 */
export type Outage =
  | { readonly _tag: "Up"; readonly failures: number }
  | { readonly _tag: "Down"; readonly probes: number }

/** @internal */
export const up: Outage = { _tag: "Up", failures: 0 }

const absent: ReadonlyArray<Reason> = ["Timeout", "NotReady", "Disconnected", "Loading", "Busy", "ClusterDown"]

/** Whether a failure says that the server is not there. One that refuses a command is. @internal */
export const saysAbsent = (reason: Reason): boolean => absent.includes(reason)

const refused: ReadonlyArray<Reason> = ["ReadOnly", "OutOfMemory", "Denied", "Reply"]

/** Whether a server that is there refused what it was asked. @internal */
export const saysRefused = (reason: Reason): boolean => refused.includes(reason)

/** After a command failed for such a reason, for which `downAfter` in a row take it down. @internal */
export const afterFailure = (outage: Outage, downAfter: number): Outage =>
  outage._tag === "Down"
    ? outage
    : outage.failures + 1 < downAfter
    ? { _tag: "Up", failures: outage.failures + 1 }
    : { _tag: "Down", probes: 0 }

/** After a probe failed. @internal */
export const afterProbe = (outage: Outage): Outage =>
  outage._tag === "Down" ? { _tag: "Down", probes: outage.probes + 1 } : outage

const firstProbe = 100
const lastProbe = 2000

/** Milliseconds until the next probe: twice as long each time, up to two seconds, less up to half of it by chance. @internal */
export const probeDelay = (probes: number, random: number): number =>
  Math.min(firstProbe * 2 ** probes, lastProbe) * (1 - random / 2)

/** The kinds of causes that an outage was told to have, and when, in milliseconds. @internal */
export interface Causes {
  /** The last one. */
  readonly kind: string
  readonly at: ReadonlyMap<string, number>
}

/** A cause that comes and goes is told of once in so many milliseconds. */
const tellCauseAfter = 60_000

/** After it has a cause of such a kind: undefined where that is nothing to tell of. @internal */
export const afterCause = (causes: Causes | undefined, kind: string, now: number): Causes | undefined =>
  kind === causes?.kind || now - (causes?.at.get(kind) ?? -Infinity) < tellCauseAfter
    ? undefined
    : { kind, at: new Map(causes?.at).set(kind, now) }
