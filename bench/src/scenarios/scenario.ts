import type { Simulation, SimulationResult } from "@effect-resilience/core/testing"

/** Figures of one run, by name. */
export type Measures = Readonly<Record<string, number>>

/** What protects in a scenario: ours or something to compare with. */
export interface Stack {
  readonly name: string
  /** The targets are meant for it. */
  readonly ours?: boolean
  /** `false` leaves a variant out of the plot, which has room for some seven lines. */
  readonly plotted?: boolean
  readonly protection?: Simulation.ProtectionOptions<any>
  readonly client?: Simulation.ClientOptions
}

/** A figure to reach. */
export interface Target {
  readonly measure: string
  readonly atLeast?: number
  readonly atMost?: number
}

export interface Column {
  readonly measure: string
  readonly title: string
  readonly unit: "%" | "ms" | "s" | "x" | "calls" | "limit"
}

/** The span in which the trouble is: a plot shades it. */
export interface Disturbance {
  /** Milliseconds. */
  readonly from: number
  readonly to: number
  readonly name: string
}

export interface Scenario {
  /** Its number in the list of scenarios. */
  readonly id: number
  readonly name: string
  /** What is done, in a line. */
  readonly says: string
  readonly during?: Disturbance
  readonly stacks: ReadonlyArray<Stack>
  readonly columns: ReadonlyArray<Column>
  readonly targets: ReadonlyArray<Target>
  readonly play: (stack: Stack, seed: number, quick: boolean) => Played
}

export interface Played {
  readonly measures: Measures
  /** For the plot. */
  readonly result: SimulationResult
}
