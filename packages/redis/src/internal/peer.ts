import type { RedisUnavailableError } from "../RedisUnavailableError.js"
import type { ServerClock } from "./clock.js"
import { heard, offsetOf, unknownClock } from "./clock.js"
import type { Reason } from "./failure.js"
import type { Outage } from "./outage.js"
import { saysRefused, up } from "./outage.js"
import type { Refusal } from "./refusal.js"

/** A server: all there is, or a node of a cluster. What is known of it is owned by its connection. */
export class Peer {
  outage: Outage = up
  cancelProbe: () => void = () => {}
  /** A key of its own, to reach it by. */
  key: string | undefined
  /** A key of its own to beat on, and how many have been tried. */
  beatKey: string | undefined
  guesses = 0
  /** What its connection was lost by, until it is there again. */
  cause: { readonly reason: Reason; readonly detail: string } | undefined
  /** What the last command failed with that did. */
  lastError: RedisUnavailableError | undefined
  /** That it refuses what is written, as of the last beats. */
  refusal: Refusal | undefined
  private clock: ServerClock = unknownClock
  /** Its time less ours, in microseconds; undefined while it has not said. */
  private offset: number | undefined

  constructor(
    /** Its address in a cluster; empty where there is one server. */
    readonly node: string,
    /** Where it is, for people to read. */
    public at: string
  ) {}

  /** What kind of failure that is: where there is no connection because the server lets nobody in, it is that. */
  kindOf({ kind, reason }: RedisUnavailableError): string {
    const { cause } = this
    const isUnconnected = reason === "NotReady" || reason === "Disconnected"
    return isUnconnected && cause !== undefined && saysRefused(cause.reason) ? cause.reason : kind
  }

  private deadlineOf = -1
  private deadlineText = "0"

  /**
   * Its time, in microseconds, at which what is sent at `now` is too late; 0 where it has not said. As a text that all have
   * in common who send within a millisecond: to write such a number takes longer than the rest.
   */
  deadline(now: number, timeout: number): string {
    const millis = Math.floor(now)
    if (this.deadlineOf !== millis) {
      this.deadlineOf = millis
      this.deadlineText = this.offset === undefined ? "0" : String(Math.floor((millis + timeout) * 1000 + this.offset))
    }
    return this.deadlineText
  }

  hear(server: number, sent: number, received: number): void {
    this.clock = heard(this.clock, server, sent, received)
    this.offset = offsetOf(this.clock)
    this.deadlineOf = -1
  }

  forgetClock(): void {
    this.clock = unknownClock
    this.offset = undefined
    this.deadlineOf = -1
  }
}
