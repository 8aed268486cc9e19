/**
 * Requests that a client may repeat: the first one with a key is carried out, the others get its response.
 *
 * @since 0.1.0
 */
import { option } from "@effect-resilience/core/extension"
import type * as App from "@effect/platform/HttpApp"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import type { HttpServerResponse } from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { IdempotencyConflict, IdempotencyKeyMissing, IdempotencyKeyReused } from "./HttpProblem.js"
import { IdempotencyStore } from "./IdempotencyStore.js"
import { digest, unique } from "./internal/digest.js"
import { tryingAgain } from "./internal/idempotency/again.js"
import type { Refusal } from "./internal/idempotency/answers.js"
import { answerOf } from "./internal/idempotency/answers.js"
import { readBody, withBody } from "./internal/idempotency/body.js"
import type { BoundedStore, Claim } from "./internal/idempotency/bounded.js"
import { boundedStore } from "./internal/idempotency/bounded.js"
import { parseKey } from "./internal/idempotency/key.js"
import { runOnce } from "./internal/idempotency/settle.js"
import { tellOf } from "./internal/idempotency/told.js"
import { Unkept } from "./internal/idempotency/unkept.js"
import { waitFor } from "./internal/idempotency/wait.js"
import { pathOf, targetOf } from "./internal/paths.js"
import { revive } from "./internal/storedResponse.js"
import { storeTrouble } from "./internal/storeTrouble.js"

/** Answers that say "not now": to repeat them would be to say so until the key is forgotten. */
const notNow: ReadonlySet<number> = new Set([408, 425, 429])

const isStored = (status: number): boolean => status < 500 && !notNow.has(status)

/** What the table of the documentation says. @internal */
export const idempotencyFields = {
  principal: option.fn<Idempotency.Options<never>["principal"]>(undefined as never, "required"),
  required: option.field<boolean | ((request: HttpServerRequest) => boolean), (request: HttpServerRequest) => boolean>(
    false,
    (input) => {
      if (Predicate.isFunction(input)) return input as (request: HttpServerRequest) => boolean
      if (Predicate.isBoolean(input)) return () => input
      throw new option.Requirement("true, false or a function")
    }
  ),
  methods: option.field<ReadonlyArray<string>, ReadonlySet<string>>(["POST", "PATCH"], (input) => {
    if (Array.isArray(input) && input.length > 0 && input.every((method) => /^[A-Z]+$/.test(method))) {
      return new Set(input)
    }
    throw new option.Requirement("a list of methods in upper case")
  }),
  allowUnquoted: option.boolean(false),
  ttl: option.duration("24 hours"),
  lease: option.duration("5 minutes"),
  retryAfter: option.duration("1 second"),
  maxBodySize: option.integer(1024 * 1024, { min: 0 }),
  maxResponseSize: option.integer(1024 * 1024, { min: 0 }),
  shouldStore: option.fn(isStored, "below 500, but for 408, 425 and 429"),
  onUnstorable: option.literal<"refuse" | "release">("refuse", "refuse", "release"),
  onInterrupt: option.literal<"release" | "finish">("release", "release", "finish"),
  onStoreError: option.literal<"fail" | "open">("fail", "fail", "open"),
  storeTimeout: option.duration("1 second"),
  revealKey: option.boolean(false)
} satisfies option.Fields<Omit<Idempotency.Options<never>, "name">>

type Settings = option.Resolved<typeof idempotencyFields>

/** What is done with a request. */
type Verdict =
  | { readonly _tag: "Run"; readonly claim: Claim; readonly shown: string; readonly request: HttpServerRequest }
  | { readonly _tag: "Open"; readonly request: HttpServerRequest }
  | { readonly _tag: "Answer"; readonly outcome: string; readonly response: HttpServerResponse }

/** A store, and what waits until it can be kept in it. */
interface Keeping {
  readonly store: BoundedStore
  readonly unkept: Unkept
}

const replayed = { "idempotency-replayed": "true" }

/** Decides about a request, and takes its key. Uninterruptible but for the reading of the body and the store. */
const decide = <R>(
  name: string,
  settings: Settings,
  principal: Idempotency.Options<R>["principal"],
  { store, unkept }: Keeping,
  request: HttpServerRequest,
  route: string
): Effect.Effect<Verdict, never, R | Scope.Scope> => {
  const refuse = (refusal: Refusal): Effect.Effect<Verdict> =>
    Effect.map(answerOf(refusal, request), (response) => ({ _tag: "Answer", outcome: refusal.reason, response }))
  const key = parseKey(request.headers["idempotency-key"] ?? "", settings.allowUnquoted)
  if (Option.isNone(key)) return refuse({ reason: "KeyMalformed" })
  const admit = Effect.gen(function*() {
    const bytes = yield* Effect.interruptible(readBody(request, settings.maxBodySize))
    const who = yield* Effect.interruptible(principal(request))
    const { method } = request
    const claim: Claim = {
      key: yield* digest(name, JSON.stringify(Option.getOrNull(who)), method, route, key.value),
      token: unique(),
      fingerprint: yield* digest(method, targetOf(request), bytes)
    }
    const buffered = withBody(request, bytes)
    const known = unkept.find(claim.key)
    const begun = known === undefined
      ? yield* Effect.either(store.begin({ ...claim, lease: settings.lease }))
      : Either.right({ _tag: "Done", ...known } as const)
    if (begun._tag === "Left") {
      return settings.onStoreError === "open"
        ? { _tag: "Open", request: buffered } as const
        : yield* refuse({ reason: "StoreFailed", retryAfter: settings.retryAfter })
    }
    if (begun.right._tag === "New") {
      const shown = settings.revealKey ? key.value : claim.key
      return { _tag: "Run", claim, shown, request: buffered } as const
    }
    if (begun.right.fingerprint !== claim.fingerprint) return yield* refuse({ reason: "KeyReused" })
    if (begun.right._tag === "InFlight") {
      return yield* refuse({ reason: "InFlight", ...waitFor(begun.right.leaseLeft, settings) })
    }
    const { response } = begun.right
    if (response.body === null) return yield* refuse({ reason: "NotRepeatable" })
    return { _tag: "Answer", outcome: "Replayed", response: revive(response, replayed) } as const
  })
  return Effect.catchAll(
    admit,
    (error): Effect.Effect<Verdict> =>
      refuse({ reason: error._tag === "BodyTooLarge" ? "BodyTooLarge" : "BodyUnreadable" })
  )
}

const middleware = <R = never>(options: Idempotency.Options<R>): Idempotency.Middleware<R> => {
  const settings = option.resolve("Idempotency", options.name, idempotencyFields, { ...options })
  const { name, principal } = options
  const told = tellOf(name)
  const trouble = storeTrouble("Idempotency", name, `onStoreError: "${settings.onStoreError}"`)
  const keepings = new WeakMap<IdempotencyStore.Service, Keeping>()
  const keepingOf = (service: IdempotencyStore.Service): Keeping => {
    let keeping = keepings.get(service)
    if (keeping === undefined) {
      const again = tryingAgain(settings.lease, service.scope)
      // Without a scope nothing would end it, and the process would stay for it.
      const store = boundedStore(service, settings.storeTimeout, trouble, service.scope && again)
      keeping = { store, unkept: new Unkept(store, again, told) }
      keepings.set(service, keeping)
    }
    return keeping
  }
  return <E, R1>(app: App.Default<E, R1>) =>
    Effect.withFiberRuntime<HttpServerResponse, E, R1 | R | HttpServerRequest | IdempotencyStore>((fiber) => {
      const request = Context.unsafeGet(fiber.currentContext, ServerRequest.HttpServerRequest)
      if (!settings.methods.has(request.method)) return app
      if (request.headers["idempotency-key"] === undefined) {
        if (!settings.required(request)) return app
        return Effect.zipRight(told.request("KeyMissing"), answerOf({ reason: "KeyMissing" }, request))
      }
      // Every request has a scope, though the types of an app do not say so.
      const scope = Context.unsafeGet(fiber.currentContext as Context.Context<Scope.Scope>, Scope.Scope)
      const router = Context.getOption(fiber.currentContext, HttpRouter.RouteContext)
      const route = Option.match(router, { onNone: () => pathOf(request), onSome: ({ route }) => route.path })
      const keeping = keepingOf(
        Context.unsafeGet(fiber.currentContext as Context.Context<IdempotencyStore>, IdempotencyStore)
      )
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(
          Scope.extend(decide(name, settings, principal, keeping, request, route), scope),
          (verdict): Effect.Effect<HttpServerResponse, E, R1 | HttpServerRequest> => {
            if (verdict._tag === "Answer") return Effect.as(told.request(verdict.outcome), verdict.response)
            const around = Effect.provideService(ServerRequest.HttpServerRequest, verdict.request)
            if (verdict._tag === "Open") return Effect.zipRight(told.request("Unprotected"), around(restore(app)))
            const { claim, shown } = verdict
            const run = { ...keeping, told, scope, claim, shown, ...settings }
            const answer = settings.onInterrupt === "release"
              ? runOnce(run, around(restore(app)))
              : Effect.flatMap(
                Effect.forkDaemon(runOnce(run, around(Effect.interruptible(app)))),
                // What it found out about its response counts when it fails, too.
                (fiber) =>
                  Effect.flatMap(restore(Fiber.await(fiber)), (exit) => Effect.zipRight(Fiber.inheritAll(fiber), exit))
              )
            return Effect.zipRight(told.request("New"), answer)
          }
        )
      )
    })
}

const middlewareEffect = <R = never>(options: Idempotency.Options<R>) => {
  const protect = middleware(options)
  return Effect.map(
    IdempotencyStore,
    (store) => <E, R1>(app: App.Default<E, R1>) => Effect.provideService(protect(app), IdempotencyStore, store)
  )
}

/**
 * The `Idempotency-Key` header field (draft-ietf-httpapi-idempotency-key-header).
 *
 * Of requests with one key the first is carried out. While it runs the others get 409 with `Retry-After`; afterwards they
 * get its response with `Idempotency-Replayed: true`. A key belongs to a principal, a method and a route (around a router,
 * where routes are not known, to a path): with another of these it is another key, and its request is carried out. With
 * another query or body, or on another path of its route, it is answered by 422. A key that is missing where it is
 * required, or cannot be read, is answered by 400.
 *
 * When the handler fails with 500 or above, dies or is interrupted, the key is free again.
 *
 * @example
 * import { Idempotency, IdempotencyStore } from "@effect-resilience/http"
 * import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
 * import { Layer } from "effect"
 *
 * const app = HttpRouter.empty.pipe(
 *   HttpRouter.post("/payments", HttpServerResponse.json({ paid: true })),
 *   Idempotency.middleware({ name: "payments", required: true, principal: Idempotency.byAuthorization })
 * )
 *
 * const server = HttpServer.serve(app).pipe(Layer.provide(IdempotencyStore.layerMemory()))
 *
 * @since 0.1.0
 * @category constructors
 */
export const Idempotency = {
  /** The middleware, for an `HttpApp`, a router, a route or an `HttpApi`. */
  middleware,
  /** The same with the store that is in the context where it is built: what `HttpApiBuilder.middleware` takes. */
  middlewareEffect,
  /** A principal is who sends this `Authorization`. Requests without it share one. */
  byAuthorization: (request: HttpServerRequest): Effect.Effect<Option.Option<string>> =>
    Effect.succeed(Option.fromNullable(request.headers["authorization"])),
  /** There is one principal: where all clients are one, or keys cannot be guessed and responses are no secret. */
  anybody: (): Effect.Effect<Option.Option<string>> => Effect.succeedNone,
  /** Response fields that browsers may read only where CORS exposes them. */
  exposedHeaders: ["Idempotency-Replayed", "Retry-After"] as ReadonlyArray<string>,
  /** What an `HttpApi` fails with: `api.addError(Idempotency.Failure)` has the statuses in OpenAPI and the derived client. */
  Failure: Schema.Union(IdempotencyKeyMissing, IdempotencyConflict, IdempotencyKeyReused)
}

/**
 * @since 0.1.0
 */
export declare namespace Idempotency {
  /**
   * It keeps what an app fails with and what it requires.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Middleware<R> {
    <E, R1>(app: App.Default<E, R1>): App.Default<E, R1 | R | IdempotencyStore>
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options<R> {
    /** Middlewares of one name share their keys. */
    readonly name: string
    /**
     * Whose key it is, so that nobody is given the response of another: a user, a tenant. Those of whom it knows nothing
     * share one. There is no safe default; see `Idempotency.byAuthorization`.
     */
    readonly principal: (request: HttpServerRequest) => Effect.Effect<Option.Option<string>, never, R>
    /** Whether a request has to have a key. Defaults to `false`. */
    readonly required?: boolean | ((request: HttpServerRequest) => boolean) | undefined
    /** The methods whose keys are read. Defaults to `["POST", "PATCH"]`. */
    readonly methods?: ReadonlyArray<string> | undefined
    /** Takes keys without the quotes that the draft asks for, too. Defaults to `false`. */
    readonly allowUnquoted?: boolean | undefined
    /** For how long a response is repeated. Defaults to `"24 hours"`. */
    readonly ttl?: DurationInput | undefined
    /**
     * For how long a key is held after a process died that had it. While a handler runs it is renewed, three times in each
     * lease; where the store cannot be reached for that long, another request may be carried out. For as long a response is
     * tried again that the store failed to keep. Defaults to `"5 minutes"`.
     */
    readonly lease?: DurationInput | undefined
    /**
     * When a client may come back after 409 or 503; up to a second is added. After 409 it is later, the longer its key has
     * shown no sign of life, up to the end of its lease. Defaults to `"1 second"`.
     */
    readonly retryAfter?: DurationInput | undefined
    /** Bytes of a request's body; above it the answer is 413. Defaults to `1048576`. */
    readonly maxBodySize?: number | undefined
    /** Bytes of a body that is kept; a larger one cannot be repeated. Defaults to `1048576`. */
    readonly maxResponseSize?: number | undefined
    /** Whether a response of this status is kept; of another, the key is free again. Defaults to those below 500, but for 408, 425 and 429. */
    readonly shouldStore?: ((status: number) => boolean) | undefined
    /**
     * What becomes of a key whose response cannot be repeated: a stream, a raw body, one that is too large. `"refuse"`
     * answers the others by 409, `"release"` carries them out again. Defaults to `"refuse"`.
     */
    readonly onUnstorable?: "refuse" | "release" | undefined
    /**
     * What becomes of a handler whose client goes, or whose time is up. `"release"` interrupts it, and its key is free
     * when it has ended. `"finish"` lets it run to its end, and the others get its response; what it took from the scope
     * of the request is gone by then. Defaults to `"release"`.
     */
    readonly onInterrupt?: "release" | "finish" | undefined
    /** When the store cannot say: 503, or carried out without protection. Defaults to `"fail"`. */
    readonly onStoreError?: "fail" | "open" | undefined
    /** How long the store may take for each operation. Defaults to `"1 second"`. */
    readonly storeTimeout?: DurationInput | undefined
    /**
     * Whether warnings of a response that is lost name the key as its client sent it, and not by the digest that the store
     * has. Defaults to `false`.
     */
    readonly revealKey?: boolean | undefined
  }
}
