import * as Predicate from "effect/Predicate"

/**
 * What is logged of a failure, and what it means. One that is expected, as its tag tells, is one line; of any other there is
 * all that it has, its stack too.
 *
 * @internal
 */
export const failureLine = (what: string, error: unknown, meaning?: string): ReadonlyArray<unknown> => {
  const text = meaning === undefined ? what : `${what} (${meaning})`
  return error instanceof Error && Predicate.hasProperty(error, "_tag") ? [`${text}: ${error.message}`] : [text, error]
}
