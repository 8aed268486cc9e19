import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"

/** What names errors: a list of tags and codes, or a function of the failed exit. @internal */
export type Matcher = ReadonlyArray<string> | ((exit: Exit.Failure<unknown, unknown>) => boolean)

/** @internal */
export const tagOf = (error: unknown): string | undefined =>
  Predicate.hasProperty(error, "_tag") && Predicate.isString(error._tag) ? error._tag : undefined

/** How deep the causes of an error are looked through for a code. */
const depth = 5

/** The codes of an error and of what caused it: errors of Node name themselves so, as `ECONNRESET`. */
const codesOf = (error: unknown): ReadonlyArray<string> => {
  const codes: Array<string> = []
  let one = error
  for (let i = 0; i < depth && Predicate.isObject(one); i++) {
    if (Predicate.hasProperty(one, "code") && Predicate.isString(one.code)) codes.push(one.code)
    one = Predicate.hasProperty(one, "cause") ? one.cause : undefined
  }
  return codes
}

/** The names of an error: its `_tag`, its `_tag` with its `reason`, and its codes. */
const namesOf = (error: unknown): ReadonlyArray<string> => {
  const tag = tagOf(error)
  const codes = codesOf(error)
  if (tag === undefined) return codes
  return Predicate.hasProperty(error, "reason") && Predicate.isString(error.reason)
    ? [tag, `${tag}.${error.reason}`, ...codes]
    : [tag, ...codes]
}

/** An error of the typed channel; where there is a defect beside it, the defect counts. */
const ofFailure = (matches: (error: any) => boolean) => (exit: Exit.Failure<unknown, unknown>): boolean =>
  !Cause.isDie(exit.cause) && Option.exists(Cause.failureOption(exit.cause), matches)

/** @internal */
export const matches = (
  matcher: Matcher | undefined
): ((exit: Exit.Failure<unknown, unknown>) => boolean) | undefined => {
  if (matcher === undefined || Predicate.isFunction(matcher)) return matcher
  const names = new Set(matcher)
  return ofFailure((error) => namesOf(error).some((name) => names.has(name)))
}

/** A predicate over the typed error of a call, as one over its exit. @internal */
export const ofError = (matcher: ReadonlyArray<string> | ((error: any) => boolean) | undefined): Matcher | undefined =>
  Predicate.isFunction(matcher) ? ofFailure(matcher) : matcher

/** The time that an error asks for, as a `Duration` or an `Option` of one. @internal */
export const retryAfterOf = (error: unknown): Duration.Duration | undefined => {
  if (!Predicate.hasProperty(error, "retryAfter")) return undefined
  const { retryAfter } = error
  if (Duration.isDuration(retryAfter)) return retryAfter
  return Option.isOption(retryAfter) && Option.isSome(retryAfter) && Duration.isDuration(retryAfter.value)
    ? retryAfter.value
    : undefined
}
