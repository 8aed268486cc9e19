import type { Priority } from "../Priority.js"
import type { Permits } from "./permits.js"
import type { Nanos } from "./time.js"

/** A signal of the system, by the reason with which it sheds. @internal */
export type Signal = "Cpu" | "Memory" | "EventLoop" | "Signal"

/** @internal */
export type Level = "normal" | "elevated" | "high" | "critical"

/** In their order. @internal */
export const levels: ReadonlyArray<Level> = ["normal", "elevated", "high", "critical"]

const reached = (load: number): number => load >= 0.9 ? 3 : load >= 0.75 ? 2 : load >= 0.6 ? 1 : 0

/** What a sample rises and falls the pressure by. @internal */
export const rise = 0.1
/** @internal */
export const fall = 0.05

/** The signals of a sample, each as a part of its threshold: at 1 it is over. @internal */
export interface Ratios {
  readonly Cpu: number
  readonly Memory: number
}

const measured = ["Cpu", "Memory"] as const

/**
 * What the signals come to. `value` is from 0 to 1: it rises with each sample that is over a threshold, stays while one is
 * between that and its recovery, and falls when all have recovered. A signal of one's own is a pressure already; the
 * greater counts.
 *
 * @internal
 */
export interface Pressure {
  readonly value: number
  readonly by: Signal
  /** What the measured signals alone come to. */
  readonly risen: number
  readonly risenBy: Signal
  /** Those that were over their thresholds and have not recovered. */
  readonly over: { readonly [S in (typeof measured)[number]]: boolean }
}

/** @internal */
export const calm: Pressure = {
  value: 0,
  by: "Cpu",
  risen: 0,
  risenBy: "Cpu",
  over: { Cpu: false, Memory: false }
}

const clamp = (n: number): number => n >= 1 ? 1 : n > 0 ? n : 0

/** The pressure after a sample. Pure. What is not a number is not known, and counts as nothing. @internal */
export const observe = (before: Pressure, ratios: Ratios, own: number, recoverAt: number): Pressure => {
  const isOver = (signal: keyof Ratios) => ratios[signal] >= 1 || (before.over[signal] && ratios[signal] >= recoverAt)
  const over = { Cpu: isOver("Cpu"), Memory: isOver("Memory") }
  const now = measured.filter((signal) => ratios[signal] >= 1)
  const worst = now.reduce<keyof Ratios | undefined>(
    (worst, one) => worst === undefined || ratios[one] > ratios[worst] ? one : worst,
    undefined
  )
  const isHeld = measured.some((signal) => over[signal])
  const risen = worst !== undefined ? clamp(before.risen + rise) : isHeld ? before.risen : clamp(before.risen - fall)
  const risenBy = worst ?? before.risenBy
  const signal = clamp(own)
  return signal > risen
    ? { value: signal, by: "Signal", risen, risenBy, over }
    : { value: risen, by: risenBy, risen, risenBy, over }
}

/** Whether the event loop is late all the time, and how many samples in a row say otherwise. @internal */
export interface Standing {
  readonly isLate: boolean
  readonly against: number
}

/** Samples in a row by which the event loop comes to be late all the time, and no more so. @internal */
export const persistence = 2
/** From so many times the target on a lag counts although the loop was not late before. @internal */
export const tooLate = 10

/** What is known of the event loop after a sample of its lag, as a part of its target. Pure. @internal */
export const stand = ({ against, isLate }: Standing, lag: number): Standing => {
  if (lag >= 1 === isLate) return { isLate, against: 0 }
  return against + 1 < persistence ? { isLate, against: against + 1 } : { isLate: !isLate, against: 0 }
}

/**
 * The pressure of an event loop that is late by so many times its target: 0.5 at the target, 0.25 more with each doubling.
 * So each class waits for the loop twice as long as the one below it before it is shed.
 *
 * It rises and falls with each call, for the lag tells how long this very call has waited. Where the loop is late now and
 * then, as it is at high load, a call is not shed before it has waited far too long.
 *
 * Source: CoDel as in folly (Facebook): the target counts while a queue stands, else only a much longer wait does.
 *
 * @internal
 */
export const loopPressure = (lag: number, { isLate }: Standing): number =>
  isLate || lag >= tooLate ? clamp((2 + Math.log2(lag)) / classes) : 0

/** Ranks below the highest, over which the pressure is spread. */
const classes = 4

/**
 * Whether a call is shed at this pressure. Its standing is its rank and, within that, its cohort: the least important go
 * first, and of one class as many as the pressure says, always the same. The highest rank is never shed by pressure.
 *
 * @internal
 */
export const isShed = (pressure: number, rank: number, cohort: number): boolean =>
  rank < classes && (rank + cohort) / classes < pressure

/**
 * A name as a number from 0 to 1, the same wherever it is asked: FNV-1a, mixed once more so that names that differ at the
 * end only lie apart.
 *
 * @internal
 */
export const cohortOf = (name: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32
}

/** The level of a load, left downwards only when the load has fallen well below it. @internal */
export const levelOf = (before: Level, load: number, recoverAt: number): Level => {
  const held = Math.min(levels.indexOf(before), reached(load / recoverAt))
  return levels[Math.max(reached(load), held)] ?? "normal"
}

/**
 * Who is let in: permits with a line before them, a share of them for each class, and the pressure of the signals.
 *
 * It is mutable, owned by the `Ref` that holds it, and touched in one synchronous step at a time.
 *
 * @internal
 */
export class Shed {
  pressure = calm
  level: Level = "normal"
  private lateness: Standing = { isLate: false, against: 0 }
  /** The pressure of the event loop, to look at: calls raise it, samples lower it. */
  private loop = 0
  /** Since when somebody waits. */
  standing: Nanos = 0n
  /** Permits in use up to which a rank is let in: at least one, unless its share is nothing. */
  private readonly room: ReadonlyArray<number>
  /** Whether a rank may wait: that whose share is all. */
  private readonly mayWait: ReadonlyArray<boolean>

  constructor(
    readonly permits: Permits,
    shares: { readonly [L in Priority.Level]: number },
    private readonly recoverAt: number
  ) {
    const { critical, high, low, normal, sheddable } = shares
    const byRank = [sheddable, low, normal, high, critical]
    this.room = byRank.map((share) => share === 0 ? 0 : Math.max(1, Math.floor(share * permits.limit)))
    this.mayWait = byRank.map((share) => share === 1)
  }

  /** The pressure of all signals, that of the event loop as it was last seen. */
  get signals(): number {
    return Math.max(this.pressure.value, this.loop)
  }

  /** In flight or signals, whichever is nearer to its limit. */
  get load(): number {
    return Math.max(this.permits.used / this.permits.limit, this.signals)
  }

  /** Takes the permits of a call, or says why not. `"Wait"`: it may join the line. `loop`: its pressure now. */
  admit(
    cost: number,
    rank: number,
    cohort: number,
    loop: number,
    now: () => Nanos
  ): true | "Wait" | "InFlight" | "Queue" | Signal {
    const { permits, pressure } = this
    if (isShed(Math.max(loop, pressure.value), rank, cohort)) {
      this.loop = Math.max(loop, this.loop)
      return loop > pressure.value ? "EventLoop" : pressure.by
    }
    const room = this.room[rank] ?? 0
    if (permits.used + cost <= room && permits.take(cost, rank, now)) return true
    if (this.mayWait[rank] !== true || cost > permits.limit || permits.maxQueued === 0) return "InFlight"
    return permits.hasPlace(rank, now()) ? "Wait" : "Queue"
  }

  /** Whether a call of this rank that costs 1 would be let in by what is in flight, or may wait. */
  hasRoom(rank: number, now: () => Nanos): boolean {
    const { permits } = this
    const room = this.room[rank] ?? 0
    if (permits.used < room && permits.isFree(1, rank, now)) return true
    return this.mayWait[rank] === true && permits.hasPlace(rank, now())
  }

  /** The pressure of the event loop for a call that meets this lag. */
  late(lag: number): number {
    return loopPressure(lag, this.lateness)
  }

  observe(ratios: Ratios, own: number, lag: number): void {
    this.pressure = observe(this.pressure, ratios, own, this.recoverAt)
    this.lateness = stand(this.lateness, lag)
    this.loop = Math.max(this.late(lag), this.loop - fall, 0)
  }

  /** The level that was left, where another is reached. */
  changeLevel(): Level | undefined {
    const from = this.level
    this.level = levelOf(from, this.load, this.recoverAt)
    return this.level === from ? undefined : from
  }
}
