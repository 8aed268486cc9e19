import type { RateLimiterStore } from "@effect-resilience/core"
import * as Exit from "effect/Exit"
import type { RedisConnection } from "../../RedisConnection.js"
import type { RedisUnavailableError } from "../../RedisUnavailableError.js"
import { later, realNow } from "../realTime.js"
import { ByKey } from "./byKey.js"
import type { Entry, Verdict } from "./codec.js"
import { batch, decisionOf, decode, encode, keysOf, maxKeys, repliesOf } from "./codec.js"
import type { Plan } from "./plan.js"
import { decideScript } from "./scripts.js"

/** Entries in one call: some milliseconds of the server's time, in which it serves nobody else. */
const maxEntries = 512

/** Callers of one entry. */
const maxCallers = 4096

/** Calls on their way at once, for each slot: while one is decided, the answers of the other are handed out. */
const maxInFlight = 2

/** Milliseconds for which an answer is waited for before the next call is sent all the same: where the server is far. */
const maxWait = 2

/** Who waits for a decision. @internal */
export interface Caller {
  readonly resume: (exit: Exit.Exit<RateLimiterStore.Decision, RedisUnavailableError>) => void
  /** Whether it was interrupted: of no account if nothing was sent, else what it took counts as used. */
  readonly isGone: () => boolean
}

/** The event loop stood still for so long that nobody waits for an answer any more: nothing is sent. */
const overdue = (redis: RedisConnection.Service, keys: ReadonlyArray<string>) =>
  redis.failure(decideScript, keys, "Timeout", "its time was over before it was sent")

/** @internal */
export const unanswered = (redis: RedisConnection.Service, keys: ReadonlyArray<string>): RedisUnavailableError =>
  redis.failure(decideScript, keys, "Reply", "there was no answer for it among those of its call")

const isGone = (caller: Caller): boolean => caller.isGone()

/** Callers that ask the same of one key, in their order. */
class Group {
  callers: Array<Caller> = []
  /** The same by the clock of the machine. */
  readonly since = realNow()

  constructor(
    readonly request: RateLimiterStore.Request,
    readonly plan: Plan,
    readonly keys: ReadonlyArray<string>,
    /** When the first of them came, by its clock. */
    readonly asked: number
  ) {}

  /** Whether one more may be decided with those that are here. A reservation has its own time. */
  takes(request: RateLimiterStore.Request, plan: Plan): boolean {
    const { cost, mode } = this.request
    return this.plan === plan && cost === request.cost && mode === request.mode &&
      (mode === "all" || mode === "peek") &&
      this.callers.length < maxCallers
  }
}

/** What waits for one slot. */
class Slot {
  readonly waiting: Array<Group> = []
  inFlight = 0
  isWoken = false
  isTimed = false
}

/** Decides by a round trip, sooner or later. @internal */
export interface Asking {
  /** `asked` is the time of the caller's clock, in milliseconds. */
  readonly ask: (request: RateLimiterStore.Request, plan: Plan, caller: Caller, asked: number) => void
}

/** Hears what was decided. @internal */
export interface Listener {
  /** Something that changes whenever what is sent from then on may be decided otherwise. */
  readonly generation: () => number
  readonly decided: (
    request: RateLimiterStore.Request,
    plan: Plan,
    decision: RateLimiterStore.Decision,
    asked: number,
    generation: number
  ) => void
}

/**
 * Decisions that wait at the same moment share a round trip. The first goes at once; those that come while it is on its way
 * are the next call, in their order, and so on. So there is no timer that anybody waits for, and the more come, the more
 * share a call. The script decides as if they had come one after another: nothing is rounded, shared or guessed.
 *
 * What came after a call was sent is never decided by it: it may have been the last token.
 *
 * @internal
 */
export class Batches implements Asking {
  private readonly slots = new Map<number, Slot>()
  /** The last group of each key, which those that come next may join. */
  private readonly open = new ByKey<Group>(Infinity)

  constructor(
    private readonly redis: RedisConnection.Service,
    private readonly timeout: number,
    private readonly listener: Listener
  ) {}

  /** Callers that have not been sent. */
  get waiting(): number {
    let waiting = 0
    for (const slot of this.slots.values()) {
      for (const group of slot.waiting) waiting += group.callers.length
    }
    return waiting
  }

  ask(request: RateLimiterStore.Request, plan: Plan, caller: Caller, asked: number): void {
    let group = this.open.get(request.instance, request.key)
    if (group === undefined || !group.takes(request, plan)) {
      group = new Group(request, plan, keysOf(this.redis.prefix, plan, request), asked)
      this.open.set(request.instance, request.key, group)
      this.join(group)
    }
    group.callers.push(caller)
  }

  private join(group: Group): void {
    const [key = ""] = group.keys
    const number = this.redis.slotOf(key)
    let slot = this.slots.get(number)
    if (slot === undefined) this.slots.set(number, slot = new Slot())
    slot.waiting.push(group)
    if (slot.isWoken) return
    slot.isWoken = true
    // Those that ask in the same turn go with it.
    queueMicrotask(() => {
      slot.isWoken = false
      this.flush(number, slot)
    })
  }

  private flush(number: number, slot: Slot): void {
    while (slot.waiting.length > 0 && slot.inFlight < maxInFlight) this.send(number, slot)
    if (slot.waiting.length === 0) {
      if (slot.inFlight === 0) this.slots.delete(number)
      return
    }
    if (slot.isTimed) return
    slot.isTimed = true
    later(maxWait, () => {
      slot.isTimed = false
      const now = realNow()
      while (slot.waiting[0] !== undefined && now - slot.waiting[0].since >= maxWait) this.send(number, slot)
      this.flush(number, slot)
    })
  }

  private send(number: number, slot: Slot): void {
    const now = realNow()
    const sent: Array<Group> = []
    const entries: Array<Entry> = []
    const isShared = slot.waiting.length > 1
    let keys = 0
    let taken = 0
    for (const group of slot.waiting) {
      keys += group.plan.rates.length + 1
      if (taken === maxEntries || keys > maxKeys) break
      taken++
      const { instance, key } = group.request
      if (this.open.get(instance, key) === group) this.open.delete(instance, key)
      if (group.callers.some(isGone)) group.callers = group.callers.filter((caller) => !isGone(caller))
      if (group.callers.length === 0) continue
      if (now - group.since > this.timeout) this.fail(group, overdue(this.redis, group.keys))
      else {
        const { callers: { length }, keys, plan, request } = group
        sent.push(group)
        entries.push(encode(keys, plan, request, isShared || length > 1 ? length : undefined))
      }
    }
    slot.waiting.splice(0, taken)
    if (sent.length === 0) return
    const generation = this.listener.generation()
    slot.inFlight++
    this.redis.unsafeRun(decideScript, ...batch(entries), (error, reply) => {
      slot.inFlight--
      const replies = error === undefined ? repliesOf(reply) : []
      sent.forEach((group, i) => {
        const entry = entries[i]
        const reply = replies[i]
        if (entry === undefined || reply === undefined) {
          return this.fail(group, error ?? unanswered(this.redis, group.keys))
        }
        this.settle(group, entry, decode(entry, reply), generation)
      })
      this.flush(number, slot)
    })
  }

  private settle(group: Group, entry: Entry, verdict: Verdict, generation: number): void {
    const { callers, plan, request } = group
    const last = decisionOf(entry, verdict, callers.length - 1)
    this.listener.decided(request, plan, last, group.asked, generation)
    const told = Exit.succeed(last)
    callers.forEach((caller, i) => {
      // Those that are not let through, and those that only looked, are told the same.
      const same = i === callers.length - 1 || i >= verdict.granted || request.mode !== "all"
      caller.resume(same ? told : Exit.succeed(decisionOf(entry, verdict, i)))
    })
  }

  private fail({ callers }: Group, error: RedisUnavailableError): void {
    const exit = Exit.fail(error)
    for (const { resume } of callers) resume(exit)
  }
}
