/** Something that will happen. @internal */
export interface Entry {
  readonly at: number
  readonly order: number
  run: (() => void) | undefined
}

/**
 * Virtual time: a binary heap of what will happen, the earliest first, and what was asked for first among those of one
 * moment. Milliseconds, with fractions.
 *
 * @internal
 */
export class Agenda {
  now = 0
  private readonly heap: Array<Entry> = []
  private order = 0

  after(delay: number, run: () => void): Entry {
    return this.at(this.now + delay, run)
  }

  at(time: number, run: () => void): Entry {
    const entry: Entry = { at: Math.max(time, this.now), order: this.order++, run }
    this.rise(entry)
    return entry
  }

  /** It stays in the heap until its time, and does nothing then. */
  cancel(entry: Entry): void {
    entry.run = undefined
  }

  /** Lets everything happen that is due until then. */
  runUntil(end: number): void {
    for (let next = this.heap[0]; next !== undefined && next.at <= end; next = this.heap[0]) {
      this.removeFirst()
      this.now = next.at
      next.run?.()
    }
    this.now = end
  }

  private rise(entry: Entry): void {
    const { heap } = this
    let at = heap.length
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above] as Entry
      if (!before(entry, parent)) break
      heap[at] = parent
      at = above
    }
    heap[at] = entry
  }

  private removeFirst(): void {
    const { heap } = this
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && before(heap[below + 1] as Entry, heap[below] as Entry)) below++
      const child = heap[below] as Entry
      if (!before(child, last)) break
      heap[at] = child
      at = below
    }
    heap[at] = last
  }
}

const before = (a: Entry, b: Entry): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)
