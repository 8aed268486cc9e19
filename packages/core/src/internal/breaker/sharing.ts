import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { SharedCircuits } from "../../SharedCircuits.js"
import type { Restore } from "../guard.js"
import type { Nanos } from "../time.js"
import { forever, now, toMillis } from "../time.js"
import type { View } from "./follow.js"
import type { Command, Config, State, Tally } from "./state.js"
import { openLength } from "./state.js"

/* What a circuit and its fleet say to each other. A circuit that has joined none uses nothing of it. */

const nanos = (millis: number): Nanos => Number.isFinite(millis) ? BigInt(Math.ceil(millis * 1e6)) : forever

/** @internal */
export const viewOf = (view: SharedCircuits.View): View => ({
  state: view.state,
  left: nanos(view.left),
  opens: view.opens,
  operator: view.operator,
  acted: view.acted
})

const tallies = new WeakMap<Tally, SharedCircuits.Tally>()

/** The record of a closed period as the fleet reads it: one object for each. */
const tallyOf = (tally: Tally): SharedCircuits.Tally => {
  let known = tallies.get(tally)
  if (known === undefined) {
    known = { ever: () => tally.window.ever(), window: () => tally.window.totals(now()) }
    tallies.set(tally, known)
  }
  return known
}

/** A circuit as its fleet sees it. @internal */
export const circuitOf = (
  instance: string,
  key: string | undefined,
  config: Config,
  read: () => State,
  tell: Pick<SharedCircuits.Circuit, "follow" | "problem" | "dropped">
): SharedCircuits.Circuit => ({
  instance,
  key,
  settings: {
    failureRate: config.failureRate,
    slowCallRate: config.slowCallRate,
    minimumCalls: config.minimumCalls,
    window: toMillis(config.quietAfter),
    halfOpenMaxCalls: config.halfOpenMaxCalls,
    successThreshold: config.successThreshold,
    halfOpenTimeout: toMillis(config.halfOpenTimeout)
  },
  tally: () => {
    const state = read()
    return state._tag === "Closed" ? tallyOf(state.tally) : undefined
  },
  openFor: () => toMillis(openLength(config, read(), now())),
  ...tell
})

/** What an operator does. @internal */
export const commandOf = (action: Command): SharedCircuits.Command =>
  action._tag === "reset" ? action : { _tag: action._tag, length: toMillis(action.length) }

/**
 * Asks the fleet for the lease of a probe, in an uninterruptible region. Only the waiting can be interrupted, and then
 * what was asked for, or has come already, goes back: `back` is for the circuit's own slot.
 *
 * @internal
 */
export const askForLease = (
  link: SharedCircuits.Link,
  restore: Restore,
  back: Effect.Effect<void>
): Effect.Effect<SharedCircuits.Lease | undefined> =>
  Effect.suspend(() => {
    let takeBack = () => {}
    const asking = Effect.async<SharedCircuits.Lease | undefined>((resume) => {
      takeBack = link.lease((lease) => resume(Exit.succeed(lease)))
    })
    return Effect.onInterrupt(restore(asking), () =>
      Effect.suspend(() => {
        takeBack()
        return back
      }))
  })
