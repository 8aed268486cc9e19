import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"

/**
 * A bad option. It dies with this at construction; from `Config` the layer fails with a `ConfigError` of this message.
 *
 * @internal
 */
export class InvalidOptionError extends Error {
  readonly _tag = "InvalidOptionError"
  override readonly name = "InvalidOptionError"
  constructor(
    readonly pattern: string,
    readonly instance: string,
    readonly field: string,
    readonly value: unknown,
    readonly requirement: string,
    text = `option ${field} must be ${requirement}, but is ${show(value)}`
  ) {
    super(`${pattern} "${instance}": ${text}`)
  }
}

/** A value in a message. Never throws. @internal */
export const show = (value: unknown): string => {
  if (Predicate.isString(value)) return JSON.stringify(value)
  if (Predicate.isFunction(value)) return "a function"
  if (Duration.isDuration(value)) return Duration.format(value)
  if (typeof value === "bigint") return `${value}n`
  if (Predicate.isRecord(value) || Array.isArray(value)) {
    try {
      return JSON.stringify(value) ?? "an object"
    } catch {
      return "an object"
    }
  }
  return String(value)
}

/** What a parser says of a bad value: "an integer of at least 1". @internal */
export class Requirement {
  constructor(readonly text: string) {}
}

const must = (text: string): never => {
  throw new Requirement(text)
}

/**
 * One option: its default, how the documentation shows that default, and what it accepts.
 *
 * @internal
 */
export interface Field<in out I, out A> {
  readonly default: I
  readonly shown: string
  readonly parse: (input: I) => A
}

/** @internal */
export const field = <I, A>(fallback: I, parse: (input: I) => A, shown?: string): Field<I, A> => ({
  default: fallback,
  parse,
  shown: shown ?? (fallback === undefined ? "—" : show(fallback))
})

/** @internal */
export interface Range {
  readonly min?: number
  readonly max?: number
  /** Exclusive lower bound. */
  readonly above?: number
  readonly infinite?: boolean
}

/** What it is and between which bounds. */
const within = (what: string, bounds: Range): string => [what, range(bounds)].join(" ").trimEnd()

const range = ({ above, max, min }: Range): string =>
  [
    above === undefined ? undefined : `above ${above}`,
    min === undefined ? undefined : max === undefined ? `of at least ${min}` : `from ${min} to ${max}`,
    max === undefined || min !== undefined ? undefined : `of at most ${max}`
  ].filter(Predicate.isNotUndefined).join(" and ")

const inRange = (n: number, { above, infinite, max, min }: Range): boolean =>
  !Number.isNaN(n) && (infinite === true || Number.isFinite(n)) &&
  (min === undefined || n >= min) && (max === undefined || n <= max) && (above === undefined || n > above)

/** @internal */
export const parseInteger = (bounds: Range) => (input: number): number =>
  Predicate.isNumber(input) && (Number.isInteger(input) || input === Infinity) && inRange(input, bounds)
    ? input
    : must(within("an integer", bounds))

/** @internal */
export const integer = (fallback: number, bounds: Range): Field<number, number> => field(fallback, parseInteger(bounds))

/** @internal */
export const parseNumber = (bounds: Range) => (input: number): number =>
  Predicate.isNumber(input) && inRange(input, bounds) ? input : must(within("a number", bounds))

/** @internal */
export const number = (fallback: number, bounds: Range): Field<number, number> => field(fallback, parseNumber(bounds))

/**
 * A duration. Bounds are in milliseconds. `Duration.decode` turns NaN and negative numbers into zero in silence, so the
 * raw input is looked at first.
 *
 * @internal
 */
export const parseDuration = (bounds: Range) => (input: Duration.DurationInput): Duration.Duration => {
  const what = `${within("a duration", bounds)}${bounds.above !== undefined || bounds.min !== undefined ? " ms" : ""}`
  const raw = Predicate.isNumber(input) ? [input] : Array.isArray(input) ? input : []
  if (raw.some((n) => !(n >= 0)) || (typeof input === "bigint" && input < 0n)) return must(what)
  if (Predicate.isString(input) && /^\s*-/.test(input)) return must(what)
  const decoded = Duration.decodeUnknown(input)
  return decoded._tag === "Some" && inRange(Duration.toMillis(decoded.value), bounds) ? decoded.value : must(what)
}

/** @internal */
export const duration = (
  fallback: Duration.DurationInput,
  bounds: Range = { above: 0 }
): Field<Duration.DurationInput, Duration.Duration> => field(fallback, parseDuration(bounds))

/** @internal */
export const literal = <const L extends string>(fallback: NoInfer<L>, ...options: ReadonlyArray<L>): Field<L, L> =>
  field(
    fallback,
    (input) => options.includes(input) ? input : must(`one of ${options.map((o) => JSON.stringify(o)).join(", ")}`)
  )

/** @internal */
export const boolean = (fallback: boolean): Field<boolean, boolean> =>
  field(fallback, (input) => Predicate.isBoolean(input) ? input : must("true or false"))

/** A function of the user. @internal */
export const fn = <F extends (...args: any) => unknown>(fallback: F, shown: string): Field<F, F> =>
  field(fallback, (input) => Predicate.isFunction(input) ? input : must("a function"), shown)

/** @internal */
export const optional = <I, A>(of: Field<I, A>, shown = "—"): Field<I | undefined, A | undefined> =>
  field<I | undefined, A | undefined>(undefined, (input) => input === undefined ? undefined : of.parse(input), shown)

/** The options of a pattern as a table. @internal */
export type Fields<Options> = { readonly [K in keyof Options]-?: Field<any, any> }

/** @internal */
export type Resolved<F> = { readonly [K in keyof F]: F[K] extends Field<any, infer A> ? A : never }

/** Options that are easily given to the wrong place. @internal */
export interface Elsewhere {
  /** A table that has them. */
  readonly fields: object
  /** Of what they are options, and how that is given them: "of the bulkhead itself: give it to its Tag". */
  readonly where: (key: string) => string
}

/**
 * Every option read by its field, the default where it is absent or `undefined`. Throws an `InvalidOptionError` for the
 * first bad value and for an option that does not exist, which says where it belongs if that is known.
 *
 * @internal
 */
export const resolve = <F extends Record<string, Field<any, any>>>(
  pattern: string,
  instance: string,
  fields: F,
  options: { readonly [K in keyof F]?: unknown },
  elsewhere?: Elsewhere
): Resolved<F> => {
  if (typeof instance !== "string" || instance.trim() === "") {
    throw new InvalidOptionError(pattern, String(instance), "name", instance, "a non-empty string")
  }
  for (const key of Object.keys(options)) {
    if (key !== "name" && !Object.hasOwn(fields, key)) {
      const known = Object.keys(fields).join(", ")
      const isElsewhere = elsewhere !== undefined && Object.hasOwn(elsewhere.fields, key)
      const where = isElsewhere ? `, which is one ${elsewhere.where(key)}` : ""
      throw new InvalidOptionError(
        pattern,
        instance,
        key,
        options[key],
        `one of ${known}`,
        `has no option ${show(key)}${where}; there are: ${known}`
      )
    }
  }
  const out: Record<string, unknown> = {}
  for (const [key, of] of Object.entries(fields)) {
    const value = options[key] === undefined ? of.default : options[key]
    try {
      out[key] = of.parse(value)
    } catch (error) {
      if (!(error instanceof Requirement)) throw error
      throw new InvalidOptionError(pattern, instance, key, value, error.text)
    }
  }
  return out as Resolved<F>
}

/** Lays options over others: an explicit `undefined` does not win. @internal */
export const merge = <O extends object>(under: O | undefined, over: O | undefined): O => {
  const out: Record<string, unknown> = { ...under }
  for (const [key, value] of Object.entries(over ?? {})) {
    if (value !== undefined) out[key] = value
  }
  return out as O
}

/** The options that a table knows. @internal */
export const pick = <F extends object, O extends { readonly [K in keyof F]?: unknown }>(
  options: O,
  fields: F
): Pick<O, keyof F & keyof O> =>
  Object.fromEntries(Object.entries(options).filter(([key]) => Object.hasOwn(fields, key))) as Pick<
    O,
    keyof F & keyof O
  >
