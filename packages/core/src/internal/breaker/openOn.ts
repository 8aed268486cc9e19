import type * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { OptionThrewError } from "../../Outcome.js"
import { parseDuration, show } from "../options.js"
import type { Nanos } from "../time.js"
import { toNanos } from "../time.js"

/** @internal */
export type OpenOn = (exit: Exit.Exit<unknown, unknown>) => Option.Option<Duration.DurationInput>

const parseWait = parseDuration({ min: 0, infinite: true })

/** The time that a server names, through the user's function: anything else is that function's bug. */
const parseNamed = (input: Duration.DurationInput): Nanos => {
  try {
    return toNanos(parseWait(input))
  } catch {
    throw new Error(`it must give a duration of at least 0 ms, but gave ${show(input)}`)
  }
}

/** For how long a call that ended like this opens the circuit, or the defect of the function that could not tell. @internal */
export const readOpenOn = (
  openOn: OpenOn | undefined,
  exit: Exit.Exit<unknown, unknown>,
  instance: string
): Nanos | undefined | OptionThrewError => {
  if (openOn === undefined) return undefined
  try {
    return Option.getOrUndefined(Option.map(openOn(exit), parseNamed))
  } catch (error) {
    return new OptionThrewError("CircuitBreaker", instance, "openOn", error)
  }
}
