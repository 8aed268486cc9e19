import type { StaleStore } from "../../StaleStore.js"
import { sizeOf } from "../storedResponse.js"

interface Kept {
  readonly entry: StaleStore.Entry
  readonly bytes: number
  readonly since: bigint
  readonly until: bigint
}

/** The memory of a store of responses: the one that was kept longest ago goes first. Times are monotonic. @internal */
export class StaleTable {
  private readonly kept = new Map<string, Kept>()
  private bytes = 0

  constructor(private readonly maxEntries: number, private readonly maxBytes: number) {}

  put(now: bigint, key: string, entry: StaleStore.Entry, ttl: bigint): void {
    this.forget(key)
    // URLs are the client's, and may be long.
    const bytes = key.length + (entry.response === null ? 0 : sizeOf(entry.response))
    if (bytes > this.maxBytes) return
    for (const oldest of this.kept.keys()) {
      if (this.kept.size < this.maxEntries && this.bytes + bytes <= this.maxBytes) break
      this.forget(oldest)
    }
    this.kept.set(key, { entry, bytes, since: now, until: now + ttl })
    this.bytes += bytes
  }

  get(now: bigint, key: string): { readonly entry: StaleStore.Entry; readonly age: bigint } | undefined {
    const found = this.kept.get(key)
    if (found === undefined) return undefined
    if (found.until > now) return { entry: found.entry, age: now - found.since }
    this.forget(key)
    return undefined
  }

  metrics(): StaleStore.Metrics {
    return { entries: this.kept.size, bytes: this.bytes }
  }

  private forget(key: string): void {
    const found = this.kept.get(key)
    if (found === undefined) return
    this.bytes -= found.bytes
    this.kept.delete(key)
  }
}
