/**
 * What waits to be sent: bounded, the oldest go first. What was taken is gone from it.
 *
 * @internal
 */
export class Outbox<A> {
  private items: Array<A> = []
  private head = 0
  /** What was pushed out by newer ones. */
  dropped = 0

  constructor(readonly capacity: number) {}

  get size(): number {
    return this.items.length - this.head
  }

  push(item: A): void {
    this.items.push(item)
    if (this.size > this.capacity) {
      this.head++
      this.dropped++
    }
    if (this.head > this.capacity) this.compact()
  }

  take(most: number): ReadonlyArray<A> {
    const taken = this.items.slice(this.head, this.head + most)
    this.head += taken.length
    this.compact()
    return taken
  }

  private compact(): void {
    this.items = this.items.slice(this.head)
    this.head = 0
  }
}
