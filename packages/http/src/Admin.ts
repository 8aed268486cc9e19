/**
 * Acting on instances at run time, by HTTP: who may, is said by a function without which there is no admin.
 *
 * @since 0.1.0
 */
import type { UnknownInstanceError } from "@effect-resilience/core"
import { ActionError, EventBus, RateLimiter, Registry } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import * as LayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as ServerRequest from "@effect/platform/HttpServerRequest"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Response from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { ClientIp } from "./ClientIp.js"
import { checkReader, checkWriter, isLoopback } from "./internal/admin/checks.js"
import type { Applied, Order, Override } from "./internal/admin/overrides.js"
import { Overrides } from "./internal/admin/overrides.js"
import { tooOften, turnAway } from "./internal/admin/refusals.js"
import type { Step } from "./internal/admin/steps.js"
import { act, giveBack, look, refuse } from "./internal/admin/steps.js"
import { sameText } from "./internal/dashboard/crypto.js"
import type { Refusal } from "./internal/hosts.js"
import { checkHost, hostsForm, parseHosts, targetOf } from "./internal/hosts.js"
import { infoOf } from "./internal/platform.js"

/**
 * Who asks may not do this.
 *
 * @since 0.1.0
 * @category errors
 */
export class ForbiddenError extends Schema.TaggedError<ForbiddenError>("@effect-resilience/http/ForbiddenError")(
  "ForbiddenError",
  {
    message: Schema.String,
    /**
     * What the client has to prove itself by, for `WWW-Authenticate`, as `Basic realm="ops"`: the request is then answered
     * with 401. Without it the answer is 403, for whom nothing helps.
     */
    challenge: Schema.optional(Schema.String)
  }
) {}

/** The options of the layer, their defaults and what they accept. @internal */
export const adminFields = {
  defaultTtl: option.duration("10 minutes", { min: 1000 }),
  maxTtl: option.duration("1 hour", { min: 1000 }),
  rate: option.field<RateLimiter.Rates, RateLimiter.Rates>("60/minute", (rate) => rate)
} satisfies option.Fields<Admin.LayerOptions>

const resolve = (options: Admin.LayerOptions) => {
  const { defaultTtl, maxTtl, rate } = option.resolve("Admin", "admin", adminFields, { ...options })
  if (options.defaultTtl !== undefined && Duration.greaterThan(defaultTtl, maxTtl)) {
    throw new option.InvalidOptionError(
      "Admin",
      "admin",
      "defaultTtl",
      options.defaultTtl,
      `at most maxTtl (${Duration.format(maxTtl)})`
    )
  }
  return { defaultTtl: Duration.min(defaultTtl, maxTtl), maxTtl, rate }
}

/** Reads how long something is to last, or fails with what is wrong with that. */
const readTtl = (maxTtl: Duration.Duration) => {
  const read = option.parseDuration({ min: 1000, max: Duration.toMillis(maxTtl) })
  return ({ action, instance, pattern }: Admin.Act, ttl: Duration.DurationInput) =>
    Effect.try({
      try: () => read(ttl),
      catch: (error) => {
        if (!(error instanceof option.Requirement)) throw error
        return new ActionError({
          pattern,
          instance,
          action,
          problem: `ttl must be ${error.text}, but is ${option.show(ttl)}`
        })
      }
    })
}

const make = (options: Admin.LayerOptions) =>
  Effect.gen(function*() {
    const { defaultTtl, maxTtl, rate } = resolve(options)
    const ttlOf = readTtl(maxTtl)
    const registry = yield* Registry
    const overrides = yield* Overrides.make(registry, yield* EventBus)
    const allowed = yield* RateLimiter.make({ name: "resilience-admin", rate })
    const refused = yield* RateLimiter.make({ name: "resilience-admin-refused", rate })
    return Admin.of({
      overrides: overrides.list,
      apply: (order, actor) =>
        Effect.flatMap(ttlOf(order, order.ttl ?? defaultTtl), (ttl) => overrides.apply({ ...order, ttl }, actor.name)),
      giveBack: ({ reason, ...which }, actor) => overrides.giveBackNow(which, actor.name, reason),
      snapshot: registry.snapshot,
      maxTtl,
      consumeAllowed: (key) => Effect.orDie(allowed.consume({ key })),
      consumeRefused: (key) => Effect.orDie(refused.consume({ key }))
    })
  })

const layer = (options: Admin.LayerOptions = {}): Layer.Layer<Admin, never, EventBus | Registry> =>
  Layer.scoped(Admin, make(options))

/** What a path that does not exist is answered with. */
const nothingHere = Response.empty({ status: 404 })

const check = <R>(options: Admin.Options<R>) => {
  const problem = (field: string, value: unknown, requirement: string) =>
    new option.InvalidOptionError("Admin", "admin", field, value, requirement)
  const { authorize, clientIp = ClientIp.fromSocket, hosts = ["localhost", "127.0.0.1", "[::1]"], stealth = false } =
    options
  if (!Predicate.isFunction(authorize)) throw problem("authorize", authorize, "a function that says who may do what")
  const names = parseHosts(hosts)
  if (names === undefined) throw problem("hosts", hosts, hostsForm)
  if (!Predicate.isFunction(clientIp)) {
    throw problem("clientIp", clientIp, "a rule, such as ClientIp.fromForwardedFor({ trusted: [\"10.0.0.0/8\"] })")
  }
  return { authorize, clientOf: ClientIp.keyOf(clientIp), hosts: names, stealth }
}

const handler = <R>(
  options: ReturnType<typeof check<R>>,
  checkSender: (request: HttpServerRequest) => Refusal | undefined,
  step: (admin: Admin.Service) => Effect.Effect<Step, Refusal, HttpServerRequest>
): Effect.Effect<Response.HttpServerResponse, never, Admin | HttpServerRequest | R> =>
  Effect.gen(function*() {
    const request = yield* ServerRequest.HttpServerRequest
    const admin = yield* Admin
    const refusal = checkHost(targetOf(request), options.hosts) ?? checkSender(request)
    if (refusal !== undefined) return yield* Effect.fail(refusal)
    const client = Option.getOrElse(options.clientOf(infoOf(request)), () => "unknown")
    const asked = yield* Effect.either(step(admin))
    // What is wrong with a request is told to those who may make it.
    const action: Admin.Action = asked._tag === "Right" ? asked.right.action : { _tag: "Look" }
    // Those who may not are counted apart: however often they ask, they lock nobody out.
    const actor = yield* Effect.catchAll(
      options.authorize(request, action),
      (error) => turnAway(admin, client, action, error)
    )
    const excess = tooOften(yield* admin.consumeAllowed(JSON.stringify([actor.name, client])))
    if (excess !== undefined) {
      return refuse(excess)
    }
    return yield* asked._tag === "Right" ? asked.right.run(actor) : Effect.succeed(refuse(asked.left))
  }).pipe(Effect.catchAll((refusal) => Effect.succeed(options.stealth ? nothingHere : refuse(refusal))))

const handlers = <R>(options: Admin.Options<R>) => {
  const checked = check(options)
  return {
    state: handler(checked, checkReader, look),
    actions: handler(checked, checkWriter, act),
    returns: handler(checked, checkWriter, giveBack)
  }
}

const bearer = (token: Redacted.Redacted, actor = "bearer of the token"): Admin.Authorize<never> => {
  const expected = Redacted.value(token)
  if (expected.length < 16) {
    throw new option.InvalidOptionError("Admin", "bearer", "token", token, "at least 16 characters, of a random kind")
  }
  return ({ headers }) => {
    const [, given] = /^bearer +(\S+)$/i.exec(headers["authorization"] ?? "") ?? []
    return given !== undefined && sameText(expected, given)
      ? Effect.succeed({ name: actor })
      : Effect.fail(
        new ForbiddenError({
          message: "The request has no valid token.",
          // As RFC 6750, section 3 says: nothing of an error to who has not tried.
          challenge: `Bearer realm="resilience-admin"${given === undefined ? "" : ", error=\"invalid_token\""}`
        })
      )
  }
}

const loopbackOnly: Admin.Authorize<never> = (request) =>
  isLoopback(request)
    ? Effect.succeed({ name: "this machine" })
    : Effect.fail(new ForbiddenError({ message: "The request does not come from this machine." }))

/**
 * An operator's hand on the instances of this process, and on what they share with others: to force a circuit open, to set
 * a limit. The answer says which it was, as `scope`. Nothing of it is mounted anywhere by default, and there is none without
 * `authorize`.
 *
 * What changes a setting does so for a while: at the end of its time, and when this layer closes, the setting is what it
 * was. Each action is an `OperatorAction` on the bus, and a line in the log.
 *
 * - `GET /state`: instances, their metrics and actions, what is overridden
 * - `POST /actions`: `{ pattern, instance, action, input?, reason, ttlSeconds? }`
 * - `POST /returns`: `{ pattern, instance, setting, reason }` ends an override before its time
 *
 * @example
 * import { ResilienceLive } from "@effect-resilience/core"
 * import { Admin } from "@effect-resilience/http"
 * import { HttpRouter, HttpServer } from "@effect/platform"
 * import { Config, Effect, Layer } from "effect"
 *
 * const server = Layer.unwrapEffect(Effect.gen(function*() {
 *   const token = yield* Config.redacted("ADMIN_TOKEN")
 *   const admin = Admin.router({ authorize: Admin.bearer(token), hosts: ["ops.example.com"] })
 *   return HttpServer.serve(HttpRouter.mount(HttpRouter.empty, "/admin", admin))
 * })).pipe(Layer.provide(Admin.Live), Layer.provide(ResilienceLive))
 *
 * @since 0.1.0
 * @category models
 */
export class Admin extends Context.Tag("@effect-resilience/http/Admin")<Admin, Admin.Service>() {
  static readonly Live: Layer.Layer<Admin, never, EventBus | Registry> = Layer.suspend(() => layer())

  /** With options. */
  static readonly layer = layer

  /** The routes: `HttpRouter.mount(router, path, Admin.router({ authorize }))`, or served by themselves on another port. */
  static readonly router = <R = never>(
    options: Admin.Options<R>
  ): HttpRouter.HttpRouter<never, Admin | HttpRouter.HttpRouter.ExcludeProvided<R>> => {
    const { actions, returns, state } = handlers(options)
    return HttpRouter.empty.pipe(
      HttpRouter.get("/state", state),
      HttpRouter.post("/actions", actions),
      HttpRouter.post("/returns", returns)
    )
  }

  /** The same for a `HttpLayerRouter`. What `authorize` requires is taken from the context of the layer. */
  static readonly layerRouter = <R = never>(
    options: Admin.Options<R> & { readonly path: `/${string}` }
  ): Layer.Layer<never, never, Admin | LayerRouter.HttpRouter | Exclude<R, HttpServerRequest>> => {
    const { actions, returns, state } = handlers(options)
    return LayerRouter.use((root) =>
      Effect.gen(function*() {
        const context = yield* Effect.context<Admin | Exclude<R, HttpServerRequest>>()
        const router = root.prefixed(options.path)
        const provide = (app: typeof state) =>
          Effect.mapInputContext(app, (request: Context.Context<HttpServerRequest>) =>
            Context.merge(context, request) as Context.Context<Admin | HttpServerRequest | R>)
        yield* router.add("GET", "/state", provide(state))
        yield* router.add("POST", "/actions", provide(actions))
        yield* router.add("POST", "/returns", provide(returns))
      })
    )
  }

  /** Lets in who sends this token as `Authorization: Bearer`. It is compared in a time that tells nothing about it. */
  static readonly bearer = bearer

  /**
   * Lets in what runs on this machine: by the address of the socket, and never by a header. A request that says that a
   * proxy hands it on (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`, `Via`) is refused. Not every proxy says so: nginx with
   * a mere `proxy_pass` does not, and lets in whoever reaches it. Behind a proxy on this machine use `Admin.bearer`.
   */
  static readonly loopbackOnly = loopbackOnly
}

/**
 * @since 0.1.0
 */
export declare namespace Admin {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Actor {
    /** Who, for the audit trail. */
    readonly name: string
  }

  /**
   * What a request wants.
   *
   * @since 0.1.0
   * @category models
   */
  export type Action =
    | { readonly _tag: "Look" }
    | ({ readonly _tag: "Act" } & Act)
    | ({ readonly _tag: "Return" } & Return)

  /** @since 0.1.0 @category models */
  export interface Act extends Omit<Order, "ttl"> {
    /** How long it lasts, where it lasts: a second at least, and `maxTtl` at most. Defaults to `defaultTtl`. */
    readonly ttl?: Duration.DurationInput | undefined
  }

  /** @since 0.1.0 @category models */
  export interface Return extends Pick<Override, "pattern" | "instance" | "setting"> {
    readonly reason: string
  }

  /**
   * Says who asks, or fails when they may not.
   *
   * @since 0.1.0
   * @category models
   */
  export type Authorize<R> = (
    request: HttpServerRequest,
    action: Action
  ) => Effect.Effect<Actor, ForbiddenError, R>

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options<R> {
    /** Who may do what. There is no default. */
    readonly authorize: Authorize<R>
    /** The names by which this host is asked, without ports. Defaults to `["localhost", "127.0.0.1", "[::1]"]`. */
    readonly hosts?: ReadonlyArray<string> | undefined
    /**
     * The address of the client, by which requests are counted. Defaults to `ClientIp.fromSocket`: behind a proxy that is
     * the proxy, for all its clients.
     */
    readonly clientIp?: ClientIp.Rule | undefined
    /** Answers with an empty 404 whoever may not ask. Defaults to `false`. */
    readonly stealth?: boolean | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface LayerOptions {
    /** How long an override lasts that does not say. Defaults to `"10 minutes"`, or `maxTtl` where that is less. */
    readonly defaultTtl?: Duration.DurationInput | undefined
    /** The longest that one may last. Defaults to `"1 hour"`. */
    readonly maxTtl?: Duration.DurationInput | undefined
    /**
     * Requests of one actor from one address; and apart from these, refused ones from one address, which then get 429
     * instead of 401 or 403, and are no longer logged. Defaults to `"60/minute"`.
     */
    readonly rate?: RateLimiter.Rates | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /** What is overridden now. */
    readonly overrides: Effect.Effect<ReadonlyArray<Override>>
    /** Acts on an instance, for a while where it changes a setting. */
    readonly apply: (order: Act, actor: Actor) => Effect.Effect<Applied, UnknownInstanceError | ActionError>
    /** Ends an override before its time; tells whom that reached, or nothing where there was none. */
    readonly giveBack: (which: Return, actor: Actor) => Effect.Effect<Registry.Reach | undefined>
    /** @internal */
    readonly snapshot: Effect.Effect<Registry.Snapshot>
    /** @internal */
    readonly maxTtl: Duration.Duration
    /** @internal */
    readonly consumeAllowed: (key: string) => Effect.Effect<RateLimiter.Decision>
    /** @internal */
    readonly consumeRefused: (key: string) => Effect.Effect<RateLimiter.Decision>
  }
}
