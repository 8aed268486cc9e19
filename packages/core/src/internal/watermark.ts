/** An item that waits to be let in, or a producer that waits to go on. @internal */
export interface Waiter {
  /** Called once: an item is let in and has to be given back, a producer goes on. */
  readonly admit: () => void
  /** Where it stands; `"Admitted"` means that an item counts as pending. */
  place: "Waiting" | "Admitted" | "Gone"
  /** A producer takes no place. */
  readonly isProducer: boolean
  /** The order in which all came. */
  ticket: number
  before: Waiter | undefined
  behind: Waiter | undefined
}

/** Those of one kind who wait, in order. */
class Line {
  first: Waiter | undefined
  private last: Waiter | undefined
  length = 0

  push(waiter: Waiter): void {
    waiter.before = this.last
    if (this.last === undefined) this.first = waiter
    else this.last.behind = waiter
    this.last = waiter
    this.length++
  }

  remove(waiter: Waiter): void {
    if (waiter.before === undefined) this.first = waiter.behind
    else waiter.before.behind = waiter.behind
    if (waiter.behind === undefined) this.last = waiter.before
    else waiter.behind.before = waiter.before
    waiter.before = waiter.behind = undefined
    this.length--
  }
}

/**
 * Two marks with a line before them. Items are let in until the high mark is reached; from then on all wait, in order,
 * until the low mark is reached, and as many come in as there is room for below the high one. So an item waits only while
 * the state is high, and nobody can pass.
 *
 * Producers stand in the same order. One that goes on takes no place, but an item of it is expected: no more go on than
 * there is room for. What is expected comes, or is forgotten: by `forget`, and when the high mark is reached.
 *
 * It is mutable, owned by the `Ref` that holds it, and touched in one synchronous step at a time.
 *
 * @internal
 */
export class Watermark {
  pending = 0
  peak = 0
  high = false
  private tickets = 0
  private readonly items = new Line()
  private readonly behindGate = new Line()
  /** Producers that went on out of the line, and whose items have not come. */
  private expected = 0

  constructor(
    /** Bounds all that is here: what is pending and what waits. */
    readonly maxPending: number,
    readonly highWaterMark: number,
    readonly lowWaterMark: number,
    /** Bounds the items that wait, and the producers that do. */
    readonly maxWaiters: number,
    /** Told of each crossing in its order: the low mark, those who come in then, the high mark. */
    private readonly crossed: (high: boolean) => void
  ) {}

  /** Items that wait. */
  get waiting(): number {
    return this.items.length
  }

  /** Producers that wait. */
  get producers(): number {
    return this.behindGate.length
  }

  /** Lets an item in, unless the state is high. */
  take(): boolean {
    if (this.high) return false
    // It may be one that was expected: who sent it, nobody knows.
    if (this.expected > 0) this.expected--
    this.enter()
    return true
  }

  /** Whether a producer may go on without a wait: nobody is before it. */
  get isOpen(): boolean {
    return !this.high && this.producers === 0
  }

  get hasPlace(): boolean {
    return this.waiting < this.maxWaiters && this.pending + this.waiting < this.maxPending
  }

  /** Puts a waiter in line, if it has a place. An item only while the state is high, a producer only while not open. */
  enqueue(waiter: Waiter): boolean {
    if (waiter.isProducer ? this.producers >= this.maxWaiters : !this.hasPlace) return false
    waiter.ticket = this.tickets++
    this.lineOf(waiter).push(waiter)
    return true
  }

  /** An item is done. */
  release(): void {
    this.pending--
    if (this.high) {
      if (this.pending > this.lowWaterMark) return
      this.high = false
      this.crossed(false)
    }
    this.open()
  }

  /** What was expected does not come any more: those behind the gate go on instead. */
  forget(): void {
    this.expected = 0
    this.open()
  }

  /** A waiter goes away; an item that was let in already is done, a producer that was let go on sends nothing. */
  abandon(waiter: Waiter): void {
    const { place } = waiter
    if (place === "Waiting") this.lineOf(waiter).remove(waiter)
    waiter.place = "Gone"
    if (place !== "Admitted") return
    if (!waiter.isProducer) this.release()
    else if (this.expected > 0) {
      this.expected--
      this.open()
    }
  }

  private enter(): void {
    this.pending++
    if (this.pending > this.peak) this.peak = this.pending
    if (this.pending >= this.highWaterMark) {
      this.high = true
      this.expected = 0
      this.crossed(true)
    }
  }

  /** Lets in, and lets go on, in the order in which they came, those for whom there is room. */
  private open(): void {
    for (let next = this.next; next !== undefined; next = this.next) {
      this.lineOf(next).remove(next)
      next.place = "Admitted"
      if (next.isProducer) this.expected++
      else this.enter()
      next.admit()
    }
  }

  private get next(): Waiter | undefined {
    if (this.high) return undefined
    const item = this.items.first
    const producer = this.pending + this.expected < this.highWaterMark ? this.behindGate.first : undefined
    return item === undefined || (producer !== undefined && producer.ticket < item.ticket) ? producer : item
  }

  private lineOf(waiter: Waiter): Line {
    return waiter.isProducer ? this.behindGate : this.items
  }
}
