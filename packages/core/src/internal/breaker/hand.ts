import * as Duration from "effect/Duration"
import type { Registry } from "../../Registry.js"
import { forever, fromNanos, now } from "../time.js"
import type { State } from "./state.js"
import { isOverridden, left } from "./state.js"

/**
 * What operators did to a circuit: whether it was done here, or in another process since. So who acts for a while knows at
 * the end whether that still stands.
 *
 * @internal
 */
export class Hand {
  private act: object | undefined = undefined
  private acted = 0

  /** Something is done here. What it gives back is called where the fleet took it: what was heard since was this. */
  acts(): () => void {
    const act = this.act = {}
    return () => {
      this.act = act
    }
  }

  /** The epoch of what was done last in the fleet. */
  hears(acted: number): void {
    if (acted !== this.acted) this.act = undefined
    this.acted = acted
  }

  standing(state: State): Registry.Standing {
    return {
      act: this.act,
      left: isOverridden(state) ? fromNanos(left(state, now()) ?? forever) : Duration.infinity
    }
  }
}
