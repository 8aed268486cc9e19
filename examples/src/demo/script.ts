/** What happens to the dependency, and for how long. */

export type Mode = "healthy" | "erroring" | "refusing" | "slow" | "hanging" | "recovering"

export interface Phase {
  readonly name: string
  readonly mode: Mode
  readonly seconds: number
  /** Whether the dependency is down: calls sent to it can only fail. */
  readonly down: boolean
}

const phase = (name: string, mode: Mode, seconds: number): Phase => ({
  name,
  mode,
  seconds,
  down: mode === "refusing" || mode === "hanging"
})

export const fullScript: ReadonlyArray<Phase> = [
  phase("healthy", "healthy", 6),
  phase("a quarter of the answers are errors", "erroring", 10),
  phase("refuses connections", "refusing", 8),
  phase("healthy again", "healthy", 8),
  phase("answers after 1.5 s", "slow", 8),
  phase("hangs", "hanging", 10),
  phase("recovers, slowly at first", "recovering", 12)
]

const shortened: { readonly [M in Mode]?: number } = { erroring: 5, hanging: 5, recovering: 6 }

/** The same story for a machine in a hurry. */
export const shortScript: ReadonlyArray<Phase> = fullScript.map((phase) => ({
  ...phase,
  seconds: shortened[phase.mode] ?? phase.seconds / 4
}))

/** Calls per second that each side makes, whatever becomes of them. */
export const callsPerSecond = 40
