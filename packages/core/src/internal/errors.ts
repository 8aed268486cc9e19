import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { duration } from "./event.js"

/** @internal */
export const ErrorTypeId = "~@effect-resilience/Error"

/**
 * `"rejection"`: the call was not let in, or was given up by a pattern before it reached the dependency.
 * `"failure"`: a pattern's own verdict on a call that did run.
 *
 * @internal
 */
export type ErrorKind = "rejection" | "failure"

/** The fields of every error of ours. @internal */
export const errorFields = <const Pattern extends string>(pattern: Pattern) => ({
  pattern: Schema.tag(pattern),
  /** The name of the instance. */
  instance: Schema.String
})

/** `retryAfter`: when it makes sense to call again, where that is known. @internal */
export const retryAfter = Schema.optionalWith(duration, { as: "Option" })

/**
 * Builds an error without its stack, which is nine tenths of its price and would show our own frames. It stays a real
 * `Error`, an instance of its class and encodable.
 *
 * @internal
 */
export const stackless = <A>(build: () => A): A => withStackLimit(0, build)

// The property is V8's; elsewhere setting it does no harm.
const V8Error: ErrorConstructor & { stackTraceLimit?: number | undefined } = Error

/** @internal */
export const withStackLimit = <A>(frames: number, build: () => A): A => {
  const limit = V8Error.stackTraceLimit
  V8Error.stackTraceLimit = frames
  try {
    return build()
  } finally {
    V8Error.stackTraceLimit = limit
  }
}

/**
 * A failed exit with an error that `build` makes without stack; pass `true` as the second argument of its constructor to
 * skip validation. `Effect.fail` would add a run-loop step to capture a span.
 *
 * @internal
 */
export const reject = <E>(build: () => E): Exit.Exit<never, E> => Exit.fail(stackless(build))

/**
 * The error that `stackless(() => new Class(fields, true))` makes, at a tenth of its price: the constructors of a schema
 * class copy the fields three times, and delete one of them. For errors that are other with each rejection; those that
 * say the same are shared.
 *
 * @internal
 */
export const assemble = <E extends Error, Fields extends Schema.Struct.Fields>(
  Class: (new(...args: any) => E) & { readonly fields: Fields },
  fields: Schema.Struct.Type<Fields>
): E => Object.assign(withStackLimit(0, () => Reflect.construct(Error, [], Class) as E), fields)

/** Carries a user's error on one of ours, for people and loggers, never on the wire. @internal */
export const withCause = <E extends Error>(error: E, cause: unknown): E => {
  Object.defineProperty(error, "cause", { value: cause, enumerable: false, configurable: true, writable: true })
  return error
}

/** What a cause is about, as the user made it: Effect wraps errors to remember their span. @internal */
export const errorOf = (cause: Cause.Cause<unknown>): unknown => Cause.originalError(Cause.squash(cause))
