import * as Effect from "effect/Effect"
import type { SharedCircuits } from "../../SharedCircuits.js"
import type { View } from "./follow.js"
import { circuitOf, viewOf } from "./sharing.js"
import type { Config, State } from "./state.js"
import type { Keyed, Watch } from "./watch.js"

/**
 * A circuit's place in its fleet. A circuit of a keyed instance leaves with its place in the table, and joins again where
 * it is put back.
 *
 * @internal
 */
export class Membership {
  /** The way to the fleet; undefined after `leave`, and of a circuit that the fleet does not share. */
  link: SharedCircuits.Link | undefined
  private readonly circuit: SharedCircuits.Circuit
  private state: SharedCircuits.View["state"] = "Closed"

  constructor(
    private readonly fleet: SharedCircuits.Service,
    private readonly watch: Watch,
    private readonly keyed: Keyed,
    config: Config,
    read: () => State,
    /** Brings the circuit to where the fleet is. */
    private readonly follow: (view: View) => Effect.Effect<void>
  ) {
    this.circuit = circuitOf(watch.instance, keyed.key, config, read, {
      follow: (view) => Effect.suspend(() => this.hear(view)),
      problem: (error) => watch.emitter.internalError("Store", error),
      dropped: () => watch.dropped(1)
    })
  }

  join(): void {
    this.link ??= this.fleet.join(this.circuit)
    // Where nothing was dropped, that is known too.
    if (this.link !== undefined) this.watch.dropped(0)
  }

  leave(): void {
    this.link?.leave()
    this.link = undefined
  }

  private hear(view: SharedCircuits.View): Effect.Effect<void> {
    const { emitter } = this.watch
    const { epoch, followed, state } = view
    if (state !== this.state) {
      this.state = state
      this.watch.fleet(state, followed)
      if (emitter.listening) emitter.emit({ _tag: "FleetChanged", ...this.keyed, state, epoch, followed })
    }
    return followed ? this.follow(viewOf(view)) : Effect.void
  }
}
