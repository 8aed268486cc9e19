/** What happens to the dependency, and for how long. */

export type Mode = "healthy" | "erroring" | "refusing" | "slow" | "hanging" | "recovering" | "crowded" | "quiet"

export interface Phase {
  readonly name: string
  readonly mode: Mode
  readonly seconds: number
  /** Whether the dependency is down: calls sent to it can only fail. */
  readonly down: boolean
  /** Calls per second that each side makes, whatever becomes of them. */
  readonly callsPerSecond: number
}

/** How often each side makes calls: one a tick is the usual traffic. */
export const ticksPerSecond = 40

const phase = (name: string, mode: Mode, seconds: number, callsPerTick = 1): Phase => ({
  name,
  mode,
  seconds,
  down: mode === "refusing" || mode === "hanging",
  callsPerSecond: callsPerTick * ticksPerSecond
})

/** First it fails. Then nothing is wrong with it, but that it is asked for more than it can do. */
export const fullScript: ReadonlyArray<Phase> = [
  phase("healthy", "healthy", 5),
  phase("a quarter of the answers are errors", "erroring", 8),
  phase("refuses connections", "refusing", 6),
  phase("healthy again", "healthy", 7),
  phase("answers after 1.5 s", "slow", 6),
  phase("hangs", "hanging", 10),
  phase("recovers, slowly at first", "recovering", 10),
  phase("3 times the calls that it can answer", "crowded", 8, 3),
  phase("the usual number of calls again", "quiet", 7)
]

const shortened: { readonly [M in Mode]?: number } = {
  healthy: 1,
  erroring: 5,
  hanging: 5,
  recovering: 5,
  crowded: 4,
  quiet: 1
}

/** The same story for a machine in a hurry. */
export const shortScript: ReadonlyArray<Phase> = fullScript.map((phase) => ({
  ...phase,
  seconds: shortened[phase.mode] ?? Math.round(phase.seconds / 4)
}))

/** Whether calls of a phase are those of the overload, or those of the failures before it. */
export const isOverload = ({ mode }: Phase): boolean => mode === "crowded" || mode === "quiet"
