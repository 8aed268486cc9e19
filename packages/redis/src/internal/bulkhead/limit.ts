import * as Deferred from "effect/Deferred"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type { Answer } from "./settle.js"

/** What an operator wants, until Redis has heard it. @internal */
export interface Order {
  /** The new limit; undefined ends what this process changed for a while. */
  readonly to: number | undefined
  /** Until when, by this process's clock in milliseconds; Infinity for good. */
  readonly until: number
}

/**
 * The limit of all processes, as one of them knows it. What is changed for a while is kept apart from what lasts, in Redis
 * too: so it ends by itself, and what is so afterwards need not be remembered by who changed it.
 *
 * @internal
 */
export class Limit {
  order: Order | undefined
  private timed: { readonly most: number; readonly until: number } | undefined
  /** The limit before this process changed it for a while: to put that back is no change of what lasts. */
  private before: number | undefined
  /** Those who wait to hear whether Redis has an order. */
  private readonly waiting: Array<Deferred.Deferred<boolean>> = []

  /** `lasting`: `maxConcurrent`, or what it was resized to for good. */
  constructor(public lasting: number) {}

  get most(): number {
    return this.timed?.most ?? this.lasting
  }

  /** When it is another by itself. */
  get until(): number {
    return this.timed?.until ?? Infinity
  }

  resize(to: number, span: number | undefined, now: number): void {
    if (span !== undefined && span !== Infinity) {
      this.before ??= this.most
      this.timed = { most: to, until: now + span }
      this.order = { to, until: now + span }
      return
    }
    const isReturn = to === this.before
    this.before = undefined
    this.order = { to: isReturn ? undefined : to, until: Infinity }
    if (isReturn) return
    this.lasting = to
    this.timed = undefined
  }

  /** Whether the time of what was changed is over. */
  lapse(now: number): boolean {
    if (now < this.until) return false
    this.timed = undefined
    return true
  }

  /** What Redis is told of an order: the limit, or -1 for its end, and for how many microseconds, or 0 for good. */
  static argsOf(order: Order | undefined, now: number): { readonly resize: number; readonly span: number } {
    if (order === undefined || order.until <= now) return { resize: 0, span: 0 }
    if (order.to === undefined) return { resize: -1, span: 0 }
    return { resize: order.to, span: order.until === Infinity ? 0 : Math.ceil((order.until - now) * 1000) }
  }

  /** An answer to a question that an order went with. One from before an order knows nothing of that. */
  heard({ lasting, left, most }: Answer, sent: Order | undefined, now: number): void {
    if (sent === this.order) this.order = undefined
    if (this.order !== undefined) return
    this.tell(true)
    this.lasting = lasting
    this.timed = left === undefined ? undefined : { most, until: now + left }
  }

  /**
   * Waits until Redis has the order, or cannot be asked: what is told from this call on counts, and not only from where the
   * effect runs, which a fiber may do after the answer.
   */
  taken(): Effect.Effect<boolean> {
    const taken = Deferred.unsafeMake<boolean>(FiberId.none)
    this.waiting.push(taken)
    return Deferred.await(taken)
  }

  tell(isTaken: boolean): void {
    for (const taken of this.waiting.splice(0)) Deferred.unsafeDone(taken, Exit.succeed(isTaken))
  }
}
