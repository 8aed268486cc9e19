/**
 * What a client is told when its request was turned away: problem documents (RFC 9457), which are also the typed failures
 * of an `HttpApi`, so that the statuses stand in OpenAPI and in the derived client.
 *
 * @since 0.1.0
 */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Schema from "effect/Schema"

const members = <const Status extends number>(status: Status) => ({
  /** A URI that names the kind of problem; `"about:blank"` where the status says it all. */
  type: Schema.String,
  title: Schema.String,
  status: Schema.Literal(status),
  /** What happened, for people; only where details are told. */
  detail: Schema.optional(Schema.String),
  /** A URI that names this occurrence, as the trace of the request. */
  instance: Schema.optional(Schema.String),
  /** Which pattern turned the request away; only where details are told. */
  pattern: Schema.optional(Schema.String),
  /** Why it did; only where details are told. */
  reason: Schema.optional(Schema.String)
})

const problem = <A>(status: number, description: string): Schema.Annotations.Schema<A> => ({
  ...HttpApiSchema.annotations({ status, description }),
  [HttpApiSchema.AnnotationEncoding]: { kind: "Json", contentType: "application/problem+json" }
})

/**
 * 429: this client asked too much. When it may come again is in the field `Retry-After` and not in the document.
 *
 * @since 0.1.0
 * @category errors
 */
export class TooManyRequests extends Schema.TaggedError<TooManyRequests>("@effect-resilience/http/TooManyRequests")(
  "TooManyRequests",
  { ...members(429), "violated-policies": Schema.optional(Schema.Array(Schema.String)) },
  problem(429, "The client made too many requests")
) {}

/**
 * 503: the service is short of capacity, or of something it depends on; any client may try again later.
 *
 * @since 0.1.0
 * @category errors
 */
export class ServiceUnavailable
  extends Schema.TaggedError<ServiceUnavailable>("@effect-resilience/http/ServiceUnavailable")(
    "ServiceUnavailable",
    members(503),
    problem(503, "The service cannot take the request now")
  )
{}

/**
 * 504: there was no answer in the time that there was.
 *
 * @since 0.1.0
 * @category errors
 */
export class GatewayTimeout extends Schema.TaggedError<GatewayTimeout>("@effect-resilience/http/GatewayTimeout")(
  "GatewayTimeout",
  members(504),
  problem(504, "The request was not answered in time")
) {}

/**
 * 400: the request needs an `Idempotency-Key`, and has none that can be read.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyKeyMissing
  extends Schema.TaggedError<IdempotencyKeyMissing>("@effect-resilience/http/IdempotencyKeyMissing")(
    "IdempotencyKeyMissing",
    members(400),
    problem(400, "The Idempotency-Key is missing or cannot be read")
  )
{}

/**
 * 409: another request with this `Idempotency-Key` is being carried out, or one was whose response cannot be repeated.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyConflict
  extends Schema.TaggedError<IdempotencyConflict>("@effect-resilience/http/IdempotencyConflict")(
    "IdempotencyConflict",
    members(409),
    problem(409, "A request with this Idempotency-Key is under way, or its response cannot be repeated")
  )
{}

/**
 * 422: this `Idempotency-Key` belongs to another request.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyKeyReused
  extends Schema.TaggedError<IdempotencyKeyReused>("@effect-resilience/http/IdempotencyKeyReused")(
    "IdempotencyKeyReused",
    members(422),
    problem(422, "The Idempotency-Key was used for another request")
  )
{}
