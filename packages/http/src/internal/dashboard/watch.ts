import type { Registry, ResilienceEvent } from "@effect-resilience/core"
import { EventLog } from "@effect-resilience/core"
import * as Duration from "effect/Duration"
import * as LogLevel from "effect/LogLevel"
import type { Json } from "./wire.js"
import { errorText, failureText, toWire } from "./wire.js"

/** A line of the timeline: one event, or a burst of the same. @internal */
export interface Entry {
  /** Numbers the lines; a line that grew comes again under its number. */
  readonly n: number
  readonly tag: string
  readonly pattern: string
  readonly instance: string
  /** Of another process: which. */
  readonly process?: string
  readonly warning: boolean
  readonly at: number
  /** The last one of a burst. */
  readonly last: number
  readonly count: number
  readonly detail: { readonly [key: string]: Json }
}

/** What only events tell of an instance. */
interface Recent {
  /** The last calls, oldest first: succeeded, failed, ignored, rejected. */
  calls: string
  /** The last durations, in milliseconds: of the calls of a timeout, of the waits of a bulkhead. */
  readonly times: Array<number>
  next: number
  readonly shed: Record<string, number>
  readonly attempts: Record<string, number>
  lastError: string | undefined
}

/** Lines of the timeline. @internal */
export const timelineLength = 500
const shownCalls = 60
const keptTimes = 200
const keptInstances = 1000
const keptBursts = 1000
/** What was not looked at for so long may have come and gone. */
const longestBlink = 10_000
/** Events that far apart are one burst. */
const burstGap = 2000

/** What calls repeat, or what goes up and down; all else is news each time. */
const perCall = new Set([
  "CallRejected",
  "Exceeded",
  "FallbackExhausted",
  "FallbackUsed",
  "InternalError",
  "LevelChanged",
  "LimitChanged",
  "Rejected",
  "RetryExhausted",
  "Shed",
  "TimedOut"
])

const mark: Partial<Record<ResilienceEvent["_tag"], string>> = {
  CallSucceeded: "s",
  CallFailed: "f",
  CallIgnored: "i",
  CallRejected: "r"
}

const percentile = (sorted: ReadonlyArray<number>, part: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0

/** Rounded, so that noise is no news. */
const rounded = (millis: number) => Number(millis.toPrecision(2))

/** @internal */
export const idOf = (pattern: string, instance: string): string => `${pattern}/${instance}`

/**
 * Listens to the bus and keeps what a page shows of it: the timeline, and of each instance its last calls, times and
 * errors. Everything in it is bounded.
 *
 * @internal
 */
export class Watch {
  private readonly lines: Array<Entry> = []
  private readonly grown = new Map<number, Entry>()
  private readonly bursts = new Map<string, Entry>()
  private readonly recent = new Map<string, Recent>()
  /** Connections that are not up: in which state, since when, and when that was seen last. */
  private readonly away = new Map<string, { readonly from: string; readonly since: number; readonly seen: number }>()
  private count = 0

  constructor(private readonly errors: "name" | "message") {}

  get timeline(): ReadonlyArray<Entry> {
    return this.lines
  }

  /** The lines that are new or grew since this was asked last. */
  takeNews(): ReadonlyArray<Entry> {
    const news = [...this.grown.values()]
    this.grown.clear()
    return news
  }

  /** An event of this process, or of another of its fleet: of that only the line is kept. */
  hear(event: ResilienceEvent, process?: string): void {
    if (process === undefined) this.remember(event)
    const level = EventLog.defaultLevel(event)
    if (LogLevel.lessThan(level, LogLevel.Info)) return
    const { detail, line } = this.detailOf(event)
    const key = perCall.has(event._tag) ?
      `${process ?? ""} ${idOf(event.pattern, event.instance)} ${event._tag} ${line}`
      : undefined
    const burst = key === undefined ? undefined : this.bursts.get(key)
    const isKept = burst !== undefined && burst.n >= (this.lines[0]?.n ?? 0)
    const entry: Entry = isKept && event.timestamp - burst.last <= burstGap
      ? { ...burst, last: event.timestamp, count: burst.count + 1, detail }
      : {
        n: ++this.count,
        tag: event._tag,
        pattern: event.pattern,
        instance: event.instance,
        ...(process === undefined ? {} : { process }),
        warning: LogLevel.greaterThanEqual(level, LogLevel.Warning),
        at: event.timestamp,
        last: event.timestamp,
        count: 1,
        detail
      }
    this.write(entry)
    if (key === undefined) return
    if (this.bursts.size === keptBursts) this.bursts.clear()
    this.bursts.set(key, entry)
  }

  /** What no event of the bus tells: that a connection is up again. */
  look(at: number, { instance, metrics, pattern }: Registry.InstanceSnapshot): void {
    if (pattern !== "RedisConnection") return
    const { downFor = 0, state } = metrics as { readonly downFor?: number; readonly state: string }
    const id = idOf(pattern, instance)
    const known = this.away.get(id)
    const gone = known !== undefined && at - known.seen <= longestBlink ? known : undefined
    if (state !== "up") {
      this.away.set(id, { from: state, since: gone?.since ?? at - downFor, seen: at })
      return
    }
    this.away.delete(id)
    if (gone === undefined) return
    this.write({
      n: ++this.count,
      tag: "StateChanged",
      pattern,
      instance,
      warning: false,
      at,
      last: at,
      count: 1,
      detail: { from: gone.from, to: state, lasted: at - gone.since }
    })
  }

  private write(entry: Entry): void {
    this.grown.set(entry.n, entry)
    const first = this.lines[0]?.n ?? entry.n
    this.lines[entry.n - first] = entry
    if (this.lines.length > timelineLength) {
      const gone = this.lines.shift()
      if (gone !== undefined) this.grown.delete(gone.n)
    }
  }

  private detailOf(event: ResilienceEvent) {
    const { _tag, callId: _call, instance: _instance, pattern: _pattern, spanId: _span, timestamp: _at, ...fields } = {
      callId: undefined,
      spanId: undefined,
      ...event
    }
    const shown = Object.entries(fields).filter(([, value]) => value !== undefined).map(([key, value]) => [
      key,
      key === "error"
        ? (_tag === "InternalError" ? failureText : errorText)(value, this.errors)
        : key === "errors" && Array.isArray(value)
        ? value.map((error) => errorText(error, this.errors))
        : toWire(value)
    ])
    const detail: { readonly [key: string]: Json } = Object.fromEntries(shown)
    // Who was shed is not the same line as who else was.
    const said = [detail["reason"] ?? detail["error"], detail["priority"]]
    return { detail, line: said.filter((one) => one !== undefined).join(" ") }
  }

  private remember(event: ResilienceEvent): void {
    const call = mark[event._tag]
    const { pattern } = event
    if (call !== undefined && pattern === "CircuitBreaker") {
      this.change(event, (recent) => {
        recent.calls = (recent.calls + call).slice(-shownCalls)
        if (event._tag === "CallFailed") recent.lastError = errorText(event.error, this.errors)
      })
    } else if (event._tag === "CompletedInTime" || event._tag === "TimedOut") {
      const time = Duration.toMillis(event._tag === "TimedOut" ? event.elapsed : event.duration)
      this.change(event, (recent) => addTime(recent, time))
    } else if (event._tag === "PermitAcquired") {
      this.change(event, (recent) => addTime(recent, Duration.toMillis(event.waited)))
    } else if (event._tag === "Shed") {
      this.change(event, ({ shed }) => {
        shed[event.priority] = (shed[event.priority] ?? 0) + 1
      })
    } else if (event._tag === "RetrySucceeded" || event._tag === "RetryExhausted") {
      this.change(event, (recent) => {
        const attempts = event.attempts >= 5 ? "5+" : String(event.attempts)
        recent.attempts[attempts] = (recent.attempts[attempts] ?? 0) + 1
        if (event._tag === "RetryExhausted") recent.lastError = errorText(event.error, this.errors)
      })
    }
  }

  private change({ instance, pattern }: ResilienceEvent, by: (recent: Recent) => void): void {
    const id = idOf(pattern, instance)
    let found = this.recent.get(id)
    if (found === undefined) {
      if (this.recent.size === keptInstances) return
      found = { calls: "", times: [], next: 0, shed: {}, attempts: {}, lastError: undefined }
      this.recent.set(id, found)
    }
    by(found)
  }

  /** What is known of an instance, for the page. */
  recentOf(id: string): { readonly [key: string]: Json } {
    const recent = this.recent.get(id)
    if (recent === undefined) return {}
    const { attempts, calls, lastError, shed, times } = recent
    const sorted = [...times].sort((a, b) => a - b)
    return {
      ...(calls === "" ? {} : { calls }),
      ...(sorted.length === 0 ? {} : {
        times: {
          count: sorted.length,
          p50: rounded(percentile(sorted, 0.5)),
          p95: rounded(percentile(sorted, 0.95)),
          p99: rounded(percentile(sorted, 0.99)),
          max: rounded(sorted.at(-1) ?? 0)
        }
      }),
      ...(Object.keys(shed).length === 0 ? {} : { shed: { ...shed } }),
      ...(Object.keys(attempts).length === 0 ? {} : { attempts: { ...attempts } }),
      ...(lastError === undefined ? {} : { lastError })
    }
  }

  /** Forgets the instances that are no more. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const known of [this.recent, this.away]) for (const id of known.keys()) if (!ids.has(id)) known.delete(id)
  }
}

const addTime = (recent: Recent, time: number): void => {
  recent.times[recent.next] = time
  recent.next = (recent.next + 1) % keptTimes
}
