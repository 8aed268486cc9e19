import type { ServerClock } from "./clock.js"
import { heard, offsetOf, unknownClock } from "./clock.js"
import type { Outage } from "./outage.js"
import { up } from "./outage.js"

/** A server: all there is, or a node of a cluster. What is known of it is owned by its connection. */
export class Peer {
  outage: Outage = up
  /** When it went down, and after what; 0 and `undefined` while it is up. */
  downSince = 0
  cancelProbe: () => void = () => {}
  /** A key of its own, to reach it by. */
  key: string | undefined
  private clock: ServerClock = unknownClock
  /** Its time less ours, in microseconds; undefined while it has not said. */
  offset: number | undefined

  constructor(
    /** Its address in a cluster; empty where there is one server. */
    readonly node: string
  ) {}

  hear(server: number, sent: number, received: number): void {
    this.clock = heard(this.clock, server, sent, received)
    this.offset = offsetOf(this.clock)
  }

  forgetClock(): void {
    this.clock = unknownClock
    this.offset = undefined
  }
}
