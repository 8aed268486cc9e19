/** A call that waits for its permits. @internal */
export interface Waiter {
  readonly permits: number
  /** A small whole number, the least important first. */
  readonly rank: number
  /** Whose call it is, where each key has a line of its own. */
  readonly key?: string | undefined
  /** Called once: with `true` when the permits are its own, with a reason when it is turned away. */
  readonly decide: (granted: true | "QueueFull" | "TooManyPermits") => void
  /** Where it stands; `"Granted"` means that the permits are its own and it has to give them back. */
  place: "Waiting" | "Granted" | "Gone"
  before: Waiter | undefined
  behind: Waiter | undefined
}

/**
 * Those who wait: a line for each rank. The highest rank is served first, and within it the oldest, or the newest where
 * `newestFirst`; whoever would be served last gives way.
 *
 * @internal
 */
export class Waiters {
  size = 0
  /** By rank. */
  private readonly oldest: Array<Waiter | undefined> = []
  private readonly newest: Array<Waiter | undefined> = []

  add(waiter: Waiter): void {
    const { rank } = waiter
    const before = this.newest[rank]
    waiter.before = before
    if (before === undefined) this.oldest[rank] = waiter
    else before.behind = waiter
    this.newest[rank] = waiter
    this.size++
  }

  remove(waiter: Waiter): void {
    const { before, behind, rank } = waiter
    if (before === undefined) this.oldest[rank] = behind
    else before.behind = behind
    if (behind === undefined) this.newest[rank] = before
    else behind.before = before
    waiter.before = waiter.behind = undefined
    waiter.place = "Gone"
    this.size--
  }

  next(newestFirst: boolean): Waiter | undefined {
    const line = newestFirst ? this.newest : this.oldest
    for (let rank = line.length - 1; rank >= 0; rank--) if (line[rank] !== undefined) return line[rank]
    return undefined
  }

  /** Whether a newcomer of this rank would be next. */
  isNext(rank: number, newestFirst: boolean): boolean {
    const next = this.next(newestFirst)
    return next === undefined || next.rank < rank || (next.rank === rank && newestFirst)
  }

  /** Who gives way to a newcomer of this rank, if anybody. */
  victim(rank: number, newestFirst: boolean): Waiter | undefined {
    const line = newestFirst ? this.oldest : this.newest
    const last = line.find((waiter) => waiter !== undefined)
    return last !== undefined && (last.rank < rank || (last.rank === rank && newestFirst)) ? last : undefined
  }

  /** In no order that means something. What is met may be removed. */
  *[Symbol.iterator](): Generator<Waiter> {
    for (let waiter of this.oldest) {
      while (waiter !== undefined) {
        const { behind }: Waiter = waiter
        yield waiter
        waiter = behind
      }
    }
  }
}
