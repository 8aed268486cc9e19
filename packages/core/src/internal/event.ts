import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/** The fields that every event has, and those that it has where there is a call and a span. @internal */
export const eventFields = <const Pattern extends string>(pattern: Pattern) => ({
  pattern: Schema.Literal(pattern),
  instance: Schema.String,
  /** The key, for events of a keyed instance. */
  key: Schema.optional(Schema.String),
  /** Milliseconds since the epoch, of the `Clock`. */
  timestamp: Schema.Finite,
  /** Numbers the calls of an instance for as long as somebody listens. */
  callId: Schema.optional(Schema.NonNegativeInt),
  traceId: Schema.optional(Schema.String),
  spanId: Schema.optional(Schema.String)
})

/** A span of time in an event or an error: milliseconds on the wire, `null` for one without end. @internal */
export const duration = Schema.transform(Schema.NullOr(Schema.NonNegative), Schema.DurationFromSelf, {
  strict: true,
  decode: (millis) => millis === null ? Duration.infinity : Duration.millis(millis),
  encode: (span) => Duration.isFinite(span) ? Duration.toMillis(span) : null
})

/** A count in an event: `null` on the wire where there is no limit. @internal */
export const countOrInfinity = Schema.transform(
  Schema.NullOr(Schema.NonNegativeInt),
  Schema.Union(Schema.NonNegativeInt, Schema.Literal(Infinity)),
  {
    strict: true,
    decode: (count) => count ?? Infinity,
    encode: (count) => Number.isFinite(count) ? count : null
  }
)

/** What failed: kept as it is in the process, name and message on the wire. @internal */
export const error = Schema.transform(Schema.Unknown, Schema.Unknown, {
  strict: true,
  decode: (wire) => Schema.decodeSync(Schema.Defect)(wire),
  // `Schema.Defect` leaves `undefined` as it is, and JSON makes something else of it.
  encode: (error) => error === undefined ? "undefined" : Schema.encodeSync(Schema.Defect)(error)
})

/** @internal */
export interface Call {
  readonly callId: number
  readonly traceId: string | undefined
  readonly spanId: string | undefined
}

/** What all events have in common. @internal */
export interface AnyEvent {
  readonly _tag: string
  readonly pattern: string
  readonly instance: string
  readonly key?: string | undefined
  readonly timestamp: number
}

/** An event without what the emitter adds. @internal */
export type Body<E> = E extends AnyEvent ? Omit<E, "pattern" | "instance" | "timestamp"> : never
