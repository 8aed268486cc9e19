import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as ServerResponse from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import {
  IdempotencyConflict,
  IdempotencyKeyMissing,
  IdempotencyKeyReused,
  ServiceUnavailable
} from "../../HttpProblem.js"
import { hasUnreadBody } from "../platform.js"
import { retryAfterSeconds } from "../retryAfter.js"

/** What a client is told that is not served. @internal */
export type Refusal =
  | { readonly reason: "KeyMissing" | "KeyMalformed" | "KeyReused" | "NotRepeatable" | "BodyTooLarge" }
  | { readonly reason: "BodyUnreadable" }
  | { readonly reason: "StoreFailed"; readonly retryAfter: Duration.Duration }
  | {
    readonly reason: "InFlight"
    readonly retryAfter: Duration.Duration
    readonly leaseLeft?: Duration.Duration | undefined
  }

const type = "about:blank"

const badRequest = (reason: string, detail: string) =>
  Schema.encodeSync(IdempotencyKeyMissing)(
    new IdempotencyKeyMissing({ type, title: "Bad Request", status: 400, detail, reason })
  )
const conflict = (reason: string, detail: string) =>
  Schema.encodeSync(IdempotencyConflict)(
    new IdempotencyConflict({ type, title: "Conflict", status: 409, detail, reason })
  )

const underWay = "A request with this Idempotency-Key is under way"

const untilFree = (leaseLeft: Duration.Duration | undefined): string =>
  leaseLeft === undefined
    ? ""
    : `. If its process has died, the key is free in ${Math.ceil(Duration.toSeconds(leaseLeft))} s`

/** The problem documents: they speak of the client's own request, so that they can be plain. */
const documents = {
  KeyMissing: () => badRequest("KeyMissing", "This operation needs the header field Idempotency-Key"),
  KeyMalformed: () =>
    badRequest("KeyMalformed", "Idempotency-Key must be one quoted string of 1 to 255 characters, as \"8e03978e\""),
  KeyReused: () =>
    Schema.encodeSync(IdempotencyKeyReused)(
      new IdempotencyKeyReused({
        type,
        title: "Unprocessable Content",
        status: 422,
        detail: "This Idempotency-Key was used for another request",
        reason: "KeyReused"
      })
    ),
  InFlight: (leaseLeft?: Duration.Duration) => conflict("InFlight", underWay + untilFree(leaseLeft)),
  NotRepeatable: () => conflict("NotRepeatable", "The request was carried out, and its response cannot be repeated"),
  StoreFailed: () =>
    Schema.encodeSync(ServiceUnavailable)(
      new ServiceUnavailable({ type, title: "Service Unavailable", status: 503 })
    ),
  BodyTooLarge: () => ({ type, title: "Content Too Large", status: 413 }),
  BodyUnreadable: () => ({ type, title: "Bad Request", status: 400, reason: "BodyUnreadable" })
}

/** @internal */
export const answerOf = (refusal: Refusal, request: HttpServerRequest): Effect.Effect<HttpServerResponse> =>
  Effect.map(Random.next, (random) => {
    const document = refusal.reason === "InFlight" ? documents.InFlight(refusal.leaseLeft) : documents[refusal.reason]()
    const wait = "retryAfter" in refusal
      ? { "retry-after": String(retryAfterSeconds(refusal.retryAfter, random)) }
      : {}
    return ServerResponse.text(JSON.stringify(document), {
      status: document.status,
      contentType: "application/problem+json",
      headers: {
        "cache-control": "no-store",
        ...wait,
        ...(hasUnreadBody(request) ? { connection: "close" } : {})
      }
    })
  })
