/**
 * Something for each key of each instance, so many at most: of more, the one that was put first goes. Two maps, for to
 * join the names would be dearer than the look.
 *
 * @internal
 */
export class ByKey<A> {
  private readonly instances = new Map<string, Map<string, A>>()
  size = 0

  constructor(private readonly max: number) {}

  get(instance: string, key: string): A | undefined {
    return this.instances.get(instance)?.get(key)
  }

  /** Puts it last; returns what had to go for it. */
  set(instance: string, key: string, value: A): A | undefined {
    this.delete(instance, key)
    const evicted = this.size < this.max ? undefined : this.evict(instance)
    const keys = this.instances.get(instance) ?? new Map<string, A>()
    this.instances.set(instance, keys.set(key, value))
    this.size++
    return evicted
  }

  delete(instance: string, key: string): void {
    const keys = this.instances.get(instance)
    if (keys?.delete(key) !== true) return
    this.size--
    if (keys.size === 0) this.instances.delete(instance)
  }

  *[Symbol.iterator](): IterableIterator<A> {
    for (const keys of this.instances.values()) yield* keys.values()
  }

  /** Of the same instance, if it has any: one with many keys does not push out those of the others. */
  private evict(instance: string): A | undefined {
    const name = this.instances.has(instance) ? instance : this.instances.keys().next().value
    const first = name === undefined ? undefined : this.instances.get(name)?.entries().next().value
    if (name === undefined || first === undefined) return undefined
    this.delete(name, first[0])
    return first[1]
  }
}
