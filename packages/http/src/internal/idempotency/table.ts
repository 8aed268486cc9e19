import { fromNanos } from "@effect-resilience/core/extension"
import type { IdempotencyStore } from "../../IdempotencyStore.js"
import type { StoredResponse } from "../../StoredResponse.js"
import { sizeOf } from "../storedResponse.js"

interface InFlight {
  readonly fingerprint: string
  readonly token: string
  readonly until: bigint
}

interface Done {
  readonly fingerprint: string
  readonly token: string
  readonly response: StoredResponse
  readonly bytes: number
  readonly until: bigint
}

/**
 * The memory of an idempotency store. Times are monotonic nanoseconds.
 *
 * What is in flight is never evicted: it would be carried out twice. What is done is, oldest first, when there is no room;
 * and an entry whose owner let its lease pass is nobody's.
 *
 * @internal
 */
export class IdempotencyTable {
  private readonly inFlight = new Map<string, InFlight>()
  private readonly done = new Map<string, Done>()
  private bytes = 0

  constructor(private readonly maxEntries: number, private readonly maxBytes: number) {}

  begin(now: bigint, request: IdempotencyStore.Begin, lease: bigint): IdempotencyStore.Begun | "Full" {
    const { fingerprint, key, token } = request
    const done = this.done.get(key)
    if (done !== undefined && done.until > now) {
      return { _tag: "Done", fingerprint: done.fingerprint, response: done.response }
    }
    this.forget(key)
    const other = this.inFlight.get(key)
    if (other !== undefined && other.until > now && other.token !== token) {
      return { _tag: "InFlight", fingerprint: other.fingerprint, leaseLeft: fromNanos(other.until - now) }
    }
    if (other === undefined && !this.makeRoom(now)) return "Full"
    this.inFlight.set(key, { fingerprint, token, until: now + lease })
    return { _tag: "New" }
  }

  /** Whether the response was kept: not when the key is another's by now. */
  complete(now: bigint, request: IdempotencyStore.Complete, ttl: bigint): boolean {
    const { fingerprint, key, token } = request
    const owner = this.inFlight.get(key) ?? this.done.get(key)
    if (owner !== undefined && owner.until > now && owner.token !== token) return false
    const isHeld = this.inFlight.delete(key)
    this.forget(key)
    if (!isHeld && !this.makeRoom(now)) return false
    const response = sizeOf(request.response) > this.maxBytes ? { ...request.response, body: null } : request.response
    const bytes = sizeOf(response)
    for (const oldest of this.done.keys()) {
      if (this.bytes + bytes <= this.maxBytes) break
      this.forget(oldest)
    }
    this.done.set(key, { fingerprint, token, response, bytes, until: now + ttl })
    this.bytes += bytes
    return true
  }

  /** Whether it was in flight for this owner. */
  release(now: bigint, key: string, token: string): boolean {
    const entry = this.inFlight.get(key)
    return entry?.token === token && this.inFlight.delete(key) && entry.until > now
  }

  metrics(): IdempotencyStore.Metrics {
    return { inFlight: this.inFlight.size, done: this.done.size, bytes: this.bytes }
  }

  private forget(key: string): void {
    const entry = this.done.get(key)
    if (entry === undefined) return
    this.bytes -= entry.bytes
    this.done.delete(key)
  }

  private makeRoom(now: bigint): boolean {
    if (this.inFlight.size + this.done.size < this.maxEntries) return true
    for (const oldest of this.done.keys()) {
      this.forget(oldest)
      return true
    }
    for (const [key, entry] of this.inFlight) {
      if (entry.until <= now) return this.inFlight.delete(key)
    }
    return false
  }
}
