import type { SharedCircuits } from "@effect-resilience/core"
import { Duration, Effect, Runtime } from "effect"

/** Runs a task after so many microtasks. */
const after = (turns: number, task: () => void): void => {
  if (turns === 0) task()
  else queueMicrotask(() => after(turns - 1, task))
}

/**
 * A fleet within the process: it gives so many leases at once, and answers late. What is told of it is kept.
 */
export class MemoryFleet implements SharedCircuits.Service {
  readonly circuits = new Set<SharedCircuits.Circuit>()
  /** Leases that are out. */
  out = 0
  /** How the probes ended. */
  readonly ended: Array<string> = []
  readonly changes: Array<SharedCircuits.Change> = []
  readonly commands: Array<SharedCircuits.Command> = []
  questions = 0
  /** It cannot be asked. */
  away = false

  private constructor(
    private readonly leases: number,
    private readonly turns: number,
    private readonly run: (told: Effect.Effect<void>) => void
  ) {}

  /** It gives `leases` at once, and answers after so many turns. */
  static readonly make = (leases = 1, turns = 1): Effect.Effect<MemoryFleet> =>
    Effect.map(Effect.runtime<never>(), (runtime) => new MemoryFleet(leases, turns, Runtime.runSync(runtime)))

  view(state: SharedCircuits.View["state"], more: Partial<SharedCircuits.View> = {}): SharedCircuits.View {
    return {
      state,
      epoch: 1,
      left: state === "Unknown" ? Infinity : 0,
      opens: 1,
      operator: false,
      acted: 0,
      followed: true,
      ...more
    }
  }

  /** Tells all circuits. */
  readonly tell = (state: SharedCircuits.View["state"], more?: Partial<SharedCircuits.View>): Effect.Effect<void> =>
    Effect.forEach(this.circuits, (circuit) => circuit.follow(this.view(state, more)), { discard: true })

  readonly join = (circuit: SharedCircuits.Circuit): SharedCircuits.Link => {
    this.circuits.add(circuit)
    return {
      changed: (change) => this.changes.push(change),
      failed: () => {},
      lease: (answered) => {
        this.questions++
        let lease: SharedCircuits.Lease | undefined
        let back = false
        after(this.turns, () => {
          if (this.away) this.run(circuit.follow(this.view("Unknown")))
          else if (this.out >= this.leases) this.run(circuit.follow(this.view("HalfOpen", { left: 0.001 })))
          else lease = this.grant()
          if (back) lease?.settle("ignored", undefined)
          else answered(lease)
        })
        return () => {
          back = true
          lease?.settle("ignored", undefined)
        }
      },
      command: (command) =>
        Effect.sync(() => {
          this.commands.push(command)
          return !this.away
        }),
      metrics: () => ({ state: "Closed", epoch: 1, age: Duration.zero, dropped: 0, followed: true }),
      leave: () => this.circuits.delete(circuit)
    }
  }

  private grant(): SharedCircuits.Lease {
    this.out++
    let over = false
    return {
      settle: (outcome) => {
        if (over) return
        over = true
        this.out--
        this.ended.push(outcome)
      }
    }
  }
}
