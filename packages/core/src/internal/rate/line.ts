import type { Nanos } from "../time.js"
import type { Charged, Plan } from "./plan.js"
import { become, charge } from "./plan.js"

/** A place in the line of a key: tokens that are promised for a time to come. @internal */
export interface Place {
  plan: Plan
  readonly cost: number
  /** After this time the promise is worth nothing to its owner. */
  readonly latest: Nanos
  /** When its turn is. */
  at: Nanos
  /** What the key has used once it has had its turn. */
  after: Charged
  /** Its time does not change any more: the owner was told. */
  pinned: boolean
  /** Its owner has gone. Until then the place can be given back exactly. */
  taken: boolean
  /** Tells the owner that it is its turn, or that its turn would come too late. */
  readonly wake: (inTime: boolean) => void
}

/**
 * Those who wait for a key, in order. Nothing of theirs is charged to the key before they go: to leave is to be taken out
 * of the line, and those behind move up. So what an interrupted waiter gives back is exactly what it had.
 *
 * @internal
 */
export class Line {
  private readonly places: Array<Place> = []
  /** What rings for the next turn. */
  cancel: (() => void) | undefined

  constructor(private readonly base: Charged) {}

  get length(): number {
    return this.places.length
  }

  /** Reservations for a time to come. */
  reserved(now: Nanos): number {
    return this.places.filter(({ at, pinned, taken }) => pinned && taken && at > now).length
  }

  /** When a call that came now would have its turn: after all that are here. */
  ready(plan: Plan, cost: number, now: Nanos): Nanos {
    return this.next(this.places.length, plan, cost, now).at
  }

  join(place: Omit<Place, "at" | "after">, now: Nanos): Place {
    const { at, found } = this.next(this.places.length, place.plan, place.cost, now)
    const joined: Place = { ...place, at, after: charge(found, at, place.cost) }
    this.places.push(joined)
    return joined
  }

  /** Takes a place out; `false` where it has gone already. */
  leave(place: Place, now: Nanos): boolean {
    const index = this.places.indexOf(place)
    if (index < 0) return false
    this.places.splice(index, 1)
    this.replan(index, now)
    return true
  }

  /** Works all turns out again, because the key was charged or given something behind their back. */
  replan(from: number, now: Nanos): void {
    for (let i = from; i < this.places.length; i++) {
      const place = this.places[i]
      if (place === undefined) return
      const { at, found } = this.next(i, place.plan, place.cost, place.pinned ? place.at : now)
      if (!place.pinned) {
        if (at > place.latest) {
          this.places.splice(i--, 1)
          place.wake(false)
          continue
        }
        place.at = at
      }
      place.after = charge(found, place.at, place.cost)
    }
  }

  /** Gives every place under one plan another. */
  change(from: Plan, to: Plan, now: Nanos): void {
    for (const place of this.places) {
      // What is pinned was promised under the plan it has.
      if (place.plan === from && !place.pinned) place.plan = to
    }
    this.replan(0, now)
  }

  /** Charges the key for those at the head who have gone. At its very time a place may still be given back. */
  settle(now: Nanos): void {
    let gone = 0
    for (const place of this.places) {
      if (!place.taken || place.at >= now) break
      become(this.base, place.after)
      gone++
    }
    if (gone > 0) this.places.splice(0, gone)
  }

  /** When the next one is to be woken. */
  due(): Nanos | undefined {
    return this.places.find(({ pinned }) => !pinned)?.at
  }

  /** Wakes those whose turn it is. */
  ring(now: Nanos): void {
    for (const place of this.places) {
      if (place.pinned) continue
      if (place.at > now) return
      place.pinned = true
      place.wake(true)
    }
  }

  /** Turns all away that wait. */
  close(): void {
    this.cancel?.()
    for (const place of this.places.splice(0)) if (!place.pinned) place.wake(false)
  }

  /** What the place of this index finds, and its time. */
  private next(index: number, plan: Plan, cost: number, now: Nanos): { readonly at: Nanos; readonly found: Charged } {
    const before = this.places[index - 1]
    const time = before !== undefined && before.at > now ? before.at : now
    const found = plan.adapt(before?.after ?? this.base, time)
    return { at: plan.algorithm.ready(found.state, time, cost), found }
  }
}
