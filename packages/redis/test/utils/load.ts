import type { RedisConnection, RedisUnavailableError } from "@effect-resilience/redis"
import { Effect } from "effect"
import { script } from "../../src/internal/script.js"

/** Writes down that it ran, and when by the server's clock, in the same step. */
export const ledger = script(
  "ledger",
  `redis.call('RPUSH', KEYS[1], ARGV[1] .. ' ' .. string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], 120000)
return 1`
)

export interface Call {
  readonly id: string
  readonly start: number
  end: number
  /** When it began and ended by the machine's clock, which the servers here have, too. */
  readonly startedAt: number
  endedAt: number
  error: RedisUnavailableError | undefined
}

/** How late the loop of this process was: what of a call's time is not the connection's. */
class Lag {
  private readonly late: Array<readonly [at: number, millis: number]> = []
  private due = performance.now() + 2
  private readonly timer: NodeJS.Timeout

  constructor() {
    this.timer = setInterval(() => {
      const now = performance.now()
      if (now - this.due > 1) this.late.push([now, now - this.due])
      this.due = now + 2
    }, 2)
  }
  stop(): void {
    clearInterval(this.timer)
  }
  /** The greatest in this time. */
  between(start: number, end: number): number {
    let greatest = 0
    for (const [at, millis] of this.late) if (at > start && at - millis < end + 2) greatest = Math.max(greatest, millis)
    return greatest
  }
}

/** Calls at a rate, whatever becomes of them, each of which writes itself down in the list at `key`. */
export class Load {
  readonly calls: Array<Call> = []
  pending = 0
  private timer: NodeJS.Timeout
  private readonly lag = new Lag()

  private constructor(readonly redis: RedisConnection.Service, key: (n: number) => string, perSecond: number) {
    const begin = performance.now()
    this.timer = setInterval(() => {
      const due = (performance.now() - begin) / 1000 * perSecond
      while (this.calls.length < due) this.send(key(this.calls.length))
    }, 1)
  }

  private send(key: string): void {
    const call: Call = {
      id: `c${this.calls.length}`,
      start: performance.now(),
      end: 0,
      startedAt: Date.now(),
      endedAt: 0,
      error: undefined
    }
    this.calls.push(call)
    this.pending++
    this.redis.unsafeRun(ledger, [key], [call.id], (error) => {
      if (call.end > 0) throw new Error(`${call.id} settled twice`)
      call.end = performance.now()
      call.endedAt = Date.now()
      call.error = error
      this.pending--
    })
  }

  /** Sends no more; what was sent settles. */
  readonly stop = Effect.promise(async () => {
    clearInterval(this.timer)
    const end = performance.now() + 5000
    while (this.pending > 0 && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5))
    this.lag.stop()
  })

  static readonly start = (redis: RedisConnection.Service, key: string | ((n: number) => string), perSecond = 1000) =>
    Effect.acquireRelease(
      Effect.sync(() => new Load(redis, typeof key === "string" ? () => key : key, perSecond)),
      (load) => load.stop
    )

  get succeeded(): number {
    return this.calls.filter(({ end, error }) => end > 0 && error === undefined).length
  }
  reasons(): Record<string, number> {
    const count: Record<string, number> = {}
    for (const { error } of this.calls) if (error !== undefined) count[error.reason] = (count[error.reason] ?? 0) + 1
    return count
  }
  /** Milliseconds of the longest calls, without what the loop was late, in order. */
  durations(which: (call: Call) => boolean = () => true): ReadonlyArray<number> {
    return this.calls.filter((call) => call.end > 0 && which(call))
      .map(({ end, start }) => end - start < 20 ? end - start : end - start - this.lag.between(start, end))
      .sort((a, b) => a - b)
  }
  /** Milliseconds from `since` until the first success that began after it. */
  recoveredAfter(since: number): number {
    const first = this.calls.find(({ end, error, start }) => start >= since && end > 0 && error === undefined)
    return first === undefined ? Infinity : first.end - since
  }
  /** The longest time without a success, in milliseconds. */
  longestGap(): number {
    const ends = this.calls.filter(({ end, error }) => end > 0 && error === undefined).map(({ end }) => end).sort((
      a,
      b
    ) => a - b)
    return ends.reduce((gap, end, index) => Math.max(gap, end - (ends[index - 1] ?? end)), 0)
  }

  /**
   * What the ledgers say: what ran more than once, and what ran although its time had passed and its caller had been told
   * that it failed.
   */
  verdict(
    entries: ReadonlyArray<string>,
    deadline = 100
  ): { readonly twice: number; readonly late: number; readonly ran: number } {
    const seen = new Map<string, number>()
    let late = 0
    const byId = new Map(this.calls.map((call) => [call.id, call]))
    for (const entry of entries) {
      const [id = "", at = ""] = entry.split(" ")
      seen.set(id, (seen.get(id) ?? 0) + 1)
      const call = byId.get(id)
      // The clocks are one, but read at two moments.
      if (call?.error === undefined) continue
      if (Number(at) / 1000 > Math.max(call.endedAt, call.startedAt + deadline) + 5) late++
    }
    return { twice: [...seen.values()].filter((times) => times > 1).length, late, ran: seen.size }
  }
}

export const quantile = (sorted: ReadonlyArray<number>, q: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0
