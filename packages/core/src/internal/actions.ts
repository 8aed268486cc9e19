import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as option from "./options.js"

/*
 * The inputs of operator actions come from outside: from an admin page, a command line. Each reader fails with what is
 * wrong with its input.
 */

/** An operator's input that an action cannot take. */
class BadInputError extends Data.TaggedError("BadInputError")<{ readonly message: string }> {}

/** @internal */
export const badInput = (message: string): BadInputError => new BadInputError({ message })

/** Nothing, or a duration. @internal */
export const optionalDuration = (input: unknown): Effect.Effect<Duration.Duration | undefined, Error> =>
  input === undefined || input === null ? Effect.succeed(undefined) : Effect.suspend(() => {
    try {
      return Effect.succeed(option.parseDuration({ above: 0 })(input as Duration.DurationInput))
    } catch {
      return Effect.fail(badInput(`the input must be a duration, as "30 seconds", but is ${option.show(input)}`))
    }
  })

/** Nothing, or who does it. @internal */
export const actor = (input: unknown): Effect.Effect<string | undefined, Error> =>
  input === undefined || input === null || Predicate.isString(input)
    ? Effect.succeed(input ?? undefined)
    : Effect.fail(badInput(`the input must name who acts, but is ${option.show(input)}`))

/** The key of a keyed instance. @internal */
export const key = (input: unknown): Effect.Effect<string, Error> =>
  Predicate.isString(input)
    ? Effect.succeed(input)
    : Effect.fail(badInput(`the input must be the key, but is ${option.show(input)}`))

/** A whole number of at least `min`. @internal */
export const integer = (min: number) => (input: unknown): Effect.Effect<number, Error> =>
  Predicate.isNumber(input) && Number.isInteger(input) && input >= min
    ? Effect.succeed(input)
    : Effect.fail(badInput(`the input must be an integer of at least ${min}, but is ${option.show(input)}`))
