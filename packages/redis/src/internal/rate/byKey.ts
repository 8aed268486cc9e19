/**
 * Something for each key of each instance, so many at most: of more, the one that was put first goes. Two maps, for to
 * join the names would be dearer than the look.
 *
 * @internal
 */
export class ByKey<A> {
  private readonly instances = new Map<string, Map<string, A>>()
  /** Those of the instance that was asked for last, which mostly is asked for next. */
  private lastInstance: string | undefined
  private lastKeys: Map<string, A> | undefined
  size = 0

  constructor(private readonly max: number) {}

  private of(instance: string): Map<string, A> | undefined {
    if (instance !== this.lastInstance) {
      this.lastInstance = instance
      this.lastKeys = this.instances.get(instance)
    }
    return this.lastKeys
  }

  get(instance: string, key: string): A | undefined {
    return this.of(instance)?.get(key)
  }

  /** Puts it last; returns what had to go for it. */
  set(instance: string, key: string, value: A): A | undefined {
    this.delete(instance, key)
    const evicted = this.size < this.max ? undefined : this.evict(instance)
    const keys = this.of(instance) ?? new Map<string, A>()
    this.instances.set(instance, keys.set(key, value))
    this.lastKeys = keys
    this.size++
    return evicted
  }

  delete(instance: string, key: string): void {
    const keys = this.of(instance)
    if (keys?.delete(key) !== true) return
    this.size--
    if (keys.size > 0) return
    this.instances.delete(instance)
    this.lastKeys = undefined
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
