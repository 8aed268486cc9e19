import * as Option from "effect/Option"
import { realNow } from "../realTime.js"
import type { Answer } from "./settle.js"

/** The part of a lease that is not used, for clocks that do not run alike and for an event loop that is busy. */
const margin = 0.05

/** The permits that a process has: by its lease or, while Redis cannot be asked, by nobody's leave. @internal */
export class Lease {
  /** Permits that it holds by its lease. */
  held = 0
  /** Until when it may use what it has. */
  until = 0
  /** When it was given some last. */
  gained = 0
  /** It has permits that nobody has lent it. */
  alone = false
  private lastFence = 0

  /** How long a lease lasts, in milliseconds. */
  constructor(private readonly span: number) {}

  readonly isGood = (): boolean => realNow() < this.until

  /** Whether so many permits in use are its own: there may be another lease than that which they were given by. */
  covers(used: number): boolean {
    return this.isGood() && (this.alone || used <= this.held)
  }

  /** The fence of its permits; none where no lease is behind them. */
  get fence(): Option.Option<number> {
    return this.alone ? Option.none() : Option.some(this.lastFence)
  }

  /** The server's lease began after the question was sent. */
  private endOf(sent: number): number {
    return sent + this.span * (1 - margin)
  }

  /** Whether an answer says what is over already. */
  isTooLate({ held }: Answer, sent: number): boolean {
    return held > 0 && realNow() >= this.endOf(sent)
  }

  /** What the server gives to a question that was sent then. */
  renew({ fence, held }: Answer, sent: number): void {
    this.held = held
    this.until = held > 0 ? this.endOf(sent) : 0
    this.alone = false
    if (fence === 0) return
    this.lastFence = fence
    this.gained = realNow()
  }

  end(): void {
    this.held = this.until = 0
  }

  /** It holds nothing, and goes on by itself where that is allowed. */
  goOn(alone: boolean): void {
    this.held = 0
    this.alone = alone
    if (alone) this.until = Infinity
  }
}
