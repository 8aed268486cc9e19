import type { ActionError, Registry, UnknownInstanceError } from "@effect-resilience/core"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import * as Response from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Admin } from "../../Admin.js"
import { toWire } from "../dashboard/wire.js"
import type { Refusal } from "../hosts.js"
import { largestBody } from "./checks.js"
import type { Applied, Override } from "./overrides.js"

const Reason = Schema.Trim.pipe(Schema.minLength(1), Schema.maxLength(500))

const ActBody = Schema.Struct({
  pattern: Schema.String,
  instance: Schema.String,
  action: Schema.String,
  input: Schema.optional(Schema.Unknown),
  reason: Reason,
  ttlSeconds: Schema.optional(Schema.Number.pipe(Schema.finite(), Schema.greaterThanOrEqualTo(1)))
})

const ReturnBody = Schema.Struct({
  pattern: Schema.String,
  instance: Schema.String,
  setting: Schema.String,
  reason: Reason
})

const body = <A, I>(schema: Schema.Schema<A, I>): Effect.Effect<A, Refusal, HttpServerRequest> =>
  ServerRequest.schemaBodyJson(schema, { onExcessProperty: "error" }).pipe(
    ServerRequest.withMaxBodySize(Option.some(largestBody)),
    Effect.mapError((error) => ({
      status: 400,
      problem: error._tag === "ParseError" ? error.message : "The body is no JSON, or too large."
    }))
  )

const json = (data: unknown, status = 200) =>
  Response.text(JSON.stringify(data), {
    status,
    contentType: status < 400 ? "application/json" : "application/problem+json",
    headers: { "cache-control": "no-store", "x-content-type-options": "nosniff" }
  })

/** @internal */
export const refuse = ({ headers = {}, problem, status }: Refusal) =>
  Response.setHeaders(json({ type: "about:blank", status, detail: problem }, status), headers)

/** An action of a request, and what it does once it is allowed. @internal */
export interface Step {
  readonly action: Admin.Action
  readonly run: (actor: Admin.Actor) => Effect.Effect<Response.HttpServerResponse>
}

const scopeOf = (reach: Registry.Reach) => reach === "fleet" ? "all processes" : "this process only"

const shown = ({ reach, ...override }: Override) => ({
  ...override,
  scope: scopeOf(reach),
  since: new Date(override.since).toISOString(),
  until: new Date(override.until).toISOString()
})

/** @internal */
export const look = (admin: Admin.Service): Effect.Effect<Step> =>
  Effect.succeed({
    action: { _tag: "Look" },
    run: () =>
      Effect.zipWith(admin.snapshot, admin.overrides, ({ instances, ...rest }, overrides) =>
        json({
          instances: instances.map(({ actions, instance, metrics, pattern }) => ({
            pattern,
            instance,
            actions,
            metrics: toWire(metrics)
          })),
          ...rest,
          overrides: overrides.map(shown)
        }))
  })

const failed = (error: UnknownInstanceError | ActionError): Response.HttpServerResponse =>
  refuse({ status: error._tag === "UnknownInstanceError" ? 404 : 422, problem: error.message })

const answer = ({ override, previous, reach }: Applied) =>
  json({
    scope: scopeOf(reach),
    previous: toWire(previous),
    override: override === undefined ? null : shown(override)
  })

/** @internal */
export const act = (admin: Admin.Service): Effect.Effect<Step, Refusal, HttpServerRequest> =>
  Effect.flatMap(body(ActBody), ({ ttlSeconds, ...order }) => {
    const ttl = ttlSeconds === undefined ? undefined : Duration.seconds(ttlSeconds)
    if (ttl !== undefined && Duration.greaterThan(ttl, admin.maxTtl)) {
      return Effect.fail({
        status: 400,
        problem: `ttlSeconds must be at most ${Duration.toSeconds(admin.maxTtl)}, but is ${ttlSeconds}`
      })
    }
    return Effect.succeed<Step>({
      action: { _tag: "Act", ...order, ttl },
      run: (actor) => Effect.match(admin.apply({ ...order, ttl }, actor), { onSuccess: answer, onFailure: failed })
    })
  })

/** @internal */
export const giveBack = (admin: Admin.Service): Effect.Effect<Step, Refusal, HttpServerRequest> =>
  Effect.map(body(ReturnBody), (which): Step => ({
    action: { _tag: "Return", ...which },
    run: (actor) =>
      Effect.map(
        admin.giveBack(which, actor),
        (reach) =>
          reach !== undefined ? json({ scope: scopeOf(reach) }) : refuse({
            status: 404,
            problem: `The ${which.setting} of ${which.pattern} "${which.instance}" is not overridden.`
          })
      )
  }))
