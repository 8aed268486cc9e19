/**
 * What a finished call means to the patterns around it. Breaker, retry, budget and limiters read the same
 * classification.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Exit from "effect/Exit"
import * as Predicate from "effect/Predicate"
import { ErrorTypeId } from "./internal/errors.js"

/**
 * - `"success"`: the dependency answered as it should.
 * - `"failure"`: it did not.
 * - `"ignored"`: the exit says nothing about the dependency.
 *
 * @since 0.1.0
 * @category models
 */
export type Outcome = "success" | "failure" | "ignored"

/**
 * Reads an outcome from an exit. It must be pure; when it throws, the call is settled as `"ignored"` and then dies with
 * an `OptionThrewError`.
 *
 * @since 0.1.0
 * @category models
 */
export type Classify = (exit: Exit.Exit<unknown, unknown>) => Outcome

/** The rejections of this library say nothing about the dependency. */
const ofError = (error: unknown): Outcome =>
  Predicate.hasProperty(error, ErrorTypeId) && error[ErrorTypeId] === "rejection" ? "ignored" : "failure"

/** The outcome of a cause by that of its errors. A defect is a failure, and interruption says nothing. */
const ofCause = (cause: Cause.Cause<unknown>, ofError: (error: unknown) => Outcome): Outcome => {
  if (cause._tag === "Fail") return ofError(cause.error)
  if (Cause.isInterruptedOnly(cause)) return "ignored"
  if (cause._tag === "Die") return "failure"
  for (const _ of Cause.defects(cause)) return "failure"
  let outcome: Outcome = "ignored"
  // Concurrent work fails with several errors at once: what is worst for the dependency counts.
  for (const error of Cause.failures(cause)) {
    const one = ofError(error)
    if (one === "failure") return "failure"
    if (one === "success") outcome = "success"
  }
  return outcome
}

/**
 * The default: a success is a success; interruption and the rejections of this library's own patterns are ignored
 * (`CircuitOpenError`, `BulkheadFullError`, a deadline that had passed before the call began or that the caller
 * imposed, …); every other failure, `TimeoutExceededError` and defects included, is a failure.
 *
 * @since 0.1.0
 * @category constructors
 */
export const classify: Classify = (exit) => exit._tag === "Success" ? "success" : ofCause(exit.cause, ofError)

/**
 * The default classification with exceptions.
 *
 * @example
 * import { classifyWith } from "@effect-resilience/core"
 *
 * const classify = classifyWith({
 *   ignoreTags: ["NotFound"],
 *   failureWhen: (value) => typeof value === "object" && value !== null && "status" in value && value.status === 503
 * })
 *
 * @since 0.1.0
 * @category constructors
 */
export const classifyWith = (options: {
  /** Errors with these `_tag`s say nothing about the dependency. */
  readonly ignoreTags?: ReadonlyArray<string> | undefined
  /** Errors with these `_tag`s are an answer: the dependency works. */
  readonly successTags?: ReadonlyArray<string> | undefined
  /** When given, only errors with these `_tag`s are failures; other errors are ignored. Defects stay failures. */
  readonly failureTags?: ReadonlyArray<string> | undefined
  /** Values that are failures although the effect succeeded. */
  readonly failureWhen?: ((value: unknown) => boolean) | undefined
}): Classify => {
  const ofTag = (error: unknown): Outcome => {
    const tag = Predicate.hasProperty(error, "_tag") ? String(error._tag) : undefined
    const isIn = (tags: ReadonlyArray<string> | undefined) => tag !== undefined && tags?.includes(tag) === true
    if (isIn(options.ignoreTags)) return "ignored"
    if (isIn(options.successTags)) return "success"
    if (isIn(options.failureTags)) return "failure"
    return options.failureTags === undefined ? ofError(error) : "ignored"
  }
  return (exit) => {
    if (exit._tag === "Failure") return ofCause(exit.cause, ofTag)
    return options.failureWhen?.(exit.value) === true ? "failure" : "success"
  }
}

/**
 * The defect of a call whose `classify`, `openOn` or other function from the options threw. The call had been settled
 * before: no permit, probe or slot is lost.
 *
 * @since 0.1.0
 * @category errors
 */
export class OptionThrewError extends Error {
  /**
   * @since 0.1.0
   */
  readonly _tag = "OptionThrewError"
  override readonly name = "OptionThrewError"
  constructor(readonly pattern: string, readonly instance: string, readonly option: string, cause: unknown) {
    super(`${pattern} "${instance}": the function given as ${option} threw: ${String(cause)}`, { cause })
  }
}
