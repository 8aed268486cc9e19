/** An item that waits to be let in. @internal */
export interface Waiter {
  /** Called once, when the item is let in and has to be given back. */
  readonly admit: () => void
  /** Where it stands; `"Admitted"` means that it counts as pending. */
  place: "Waiting" | "Admitted" | "Gone"
  before: Waiter | undefined
  behind: Waiter | undefined
}

/**
 * Two marks with a line before them. Items are let in until the high mark is reached; from then on all wait, in order,
 * until the low mark is reached, and as many come in as there is room for below the high one. So somebody waits only while
 * the state is high, and nobody can pass.
 *
 * It is mutable, owned by the `Ref` that holds it, and touched in one synchronous step at a time.
 *
 * @internal
 */
export class Watermark {
  pending = 0
  peak = 0
  waiting = 0
  high = false
  private head: Waiter | undefined
  private tail: Waiter | undefined

  constructor(
    /** Bounds all that is here: what is pending and what waits. */
    readonly maxPending: number,
    readonly highWaterMark: number,
    readonly lowWaterMark: number,
    readonly maxWaiters: number,
    /** Told of each crossing in its order: the low mark, those who come in then, the high mark. */
    private readonly crossed: (high: boolean) => void
  ) {}

  /** Lets an item in, unless the state is high. */
  take(): boolean {
    if (this.high) return false
    this.enter()
    return true
  }

  get hasPlace(): boolean {
    return this.waiting < this.maxWaiters && this.pending + this.waiting < this.maxPending
  }

  /** Puts a waiter in line, if it has a place. Only while the state is high. */
  enqueue(waiter: Waiter): boolean {
    if (!this.hasPlace) return false
    waiter.before = this.tail
    if (this.tail === undefined) this.head = waiter
    else this.tail.behind = waiter
    this.tail = waiter
    this.waiting++
    return true
  }

  /** An item is done. */
  release(): void {
    this.pending--
    if (!this.high || this.pending > this.lowWaterMark) return
    this.high = false
    this.crossed(false)
    while (!this.high && this.head !== undefined) {
      const next = this.head
      this.remove(next)
      next.place = "Admitted"
      this.enter()
      next.admit()
    }
  }

  /** A waiter goes away; if it was let in already, it is done. */
  abandon(waiter: Waiter): void {
    if (waiter.place === "Admitted") {
      waiter.place = "Gone"
      this.release()
    } else if (waiter.place === "Waiting") this.remove(waiter)
  }

  private enter(): void {
    this.pending++
    if (this.pending > this.peak) this.peak = this.pending
    if (this.pending >= this.highWaterMark) {
      this.high = true
      this.crossed(true)
    }
  }

  private remove(waiter: Waiter): void {
    if (waiter.before === undefined) this.head = waiter.behind
    else waiter.before.behind = waiter.behind
    if (waiter.behind === undefined) this.tail = waiter.before
    else waiter.behind.before = waiter.before
    waiter.before = waiter.behind = undefined
    waiter.place = "Gone"
    this.waiting--
  }
}
