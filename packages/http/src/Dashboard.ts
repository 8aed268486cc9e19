/**
 * A page that shows how all instances do, live.
 *
 * @since 0.1.0
 */
import { EventBus, Fleet, Registry, SystemLoad } from "@effect-resilience/core"
import { option } from "@effect-resilience/core/extension"
import * as LayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpRouter from "@effect/platform/HttpRouter"
import { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as Response from "@effect/platform/HttpServerResponse"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Scope } from "effect/Scope"
import * as Stream from "effect/Stream"
import { Admin } from "./Admin.js"
import { checkReader } from "./internal/admin/checks.js"
import { secret } from "./internal/dashboard/crypto.js"
import { Feed } from "./internal/dashboard/feed.js"
import { Model } from "./internal/dashboard/model.js"
import { contentSecurityPolicy, page } from "./internal/dashboard/page.js"
import { Watch } from "./internal/dashboard/watch.js"
import { toWire } from "./internal/dashboard/wire.js"
import type { Refusal } from "./internal/hosts.js"
import { checkHost, hostsForm, parseHosts, targetOf } from "./internal/hosts.js"

const text = (fallback: string) =>
  option.field<string, string>(fallback, (input) => {
    if (Predicate.isString(input) && input.length <= 100) return input
    throw new option.Requirement("a string of at most 100 characters")
  })

/** The options, their defaults and what they accept. @internal */
export const dashboardFields = {
  title: text("Resilience"),
  version: option.optional(text("")),
  instance: option.optional(text("")),
  interval: option.duration("500 millis", { min: 100 }),
  maxViewers: option.integer(16, { min: 1, max: 1000 }),
  errors: option.literal<"name" | "message">("name", "name", "message"),
  history: option.boolean(false),
  hosts: option.optional(option.field<ReadonlyArray<string>, ReadonlyArray<string>>([], (input) => {
    const hosts = parseHosts(input)
    if (hosts === undefined) throw new option.Requirement(hostsForm)
    return hosts
  })),
  admin: option.optional(option.field<string, string>("", (input) => {
    if (Predicate.isString(input) && /^(\/(?![/\\])|\.{1,2}\/)[^?#]*$/.test(input)) return input
    throw new option.Requirement("a path, as \"/admin\" or \"../admin\"")
  }))
} satisfies option.Fields<Dashboard.Options>

const make = (options: Dashboard.Options) =>
  Effect.gen(function*() {
    const { admin: adminPath, errors, history, hosts, instance, interval, maxViewers, title, version } = option.resolve(
      "Dashboard",
      options.title ?? "Resilience",
      dashboardFields,
      { ...options }
    )
    const admin = yield* Effect.serviceOption(Admin)
    if (adminPath !== undefined && Option.isNone(admin)) {
      throw new option.InvalidOptionError(
        "Dashboard",
        title,
        "admin",
        adminPath,
        "left out where no Admin is provided to the layer"
      )
    }
    const watch = new Watch(errors)
    const app = toWire({ title, version, instance, history, admin: adminPath, since: yield* Clock.currentTimeMillis })
    const feed = yield* Feed.make({
      registry: yield* Registry,
      bus: yield* EventBus,
      system: yield* Effect.serviceOption(SystemLoad),
      fleet: yield* Effect.serviceOption(Fleet),
      overrides: Option.isSome(admin) ? Effect.map(admin.value.overrides, toWire) : Effect.succeed([]),
      model: new Model(secret(8), app, watch),
      watch,
      interval,
      maxViewers,
      history
    })
    return { hosts, open: feed.open, viewers: feed.viewers, samples: feed.samples }
  })

const layer = (options: Dashboard.Options = {}): Layer.Layer<Dashboard, never, EventBus | Registry> =>
  Layer.scoped(Dashboard, make(options))

const plain = (status: number, text: string, headers: Readonly<Record<string, string>> = {}) =>
  Response.text(text, { status, headers: { ...headers, "cache-control": "no-store" } })

const refuse = ({ problem, status }: Refusal) => plain(status, problem)

const pageHandler = Effect.gen(function*() {
  const { hosts } = yield* Dashboard
  // A link from elsewhere is as good as any: it shows the page to who follows it, and reads nothing of it.
  const refusal = checkHost(targetOf(yield* HttpServerRequest), hosts)
  if (refusal !== undefined) return refuse(refusal)
  const nonce = secret()
  return Response.text(page(nonce), {
    contentType: "text/html; charset=utf-8",
    headers: {
      "content-security-policy": contentSecurityPolicy(nonce),
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-resource-policy": "same-origin"
    }
  })
})

const eventHeaders = {
  "cache-control": "no-store",
  "x-accel-buffering": "no",
  "x-content-type-options": "nosniff",
  "cross-origin-resource-policy": "same-origin"
}
const contentType = "text/event-stream"

/** Whether the server of a request takes no more of them: Node's tells. */
const isClosing = (source: unknown) => {
  const socket = Predicate.hasProperty(source, "socket") ? source.socket : undefined
  const server = Predicate.hasProperty(socket, "server") ? socket.server : undefined
  return () => Predicate.hasProperty(server, "listening") && server.listening === false
}

const eventsHandler = Effect.gen(function*() {
  const dashboard = yield* Dashboard
  const request = yield* HttpServerRequest
  const { headers, method, source } = request
  const refusal = checkHost(targetOf(request), dashboard.hosts) ?? checkReader(request)
  if (refusal !== undefined) return refuse(refusal)
  // A stream that is asked for its head only is never run, and would keep its place.
  if (method === "HEAD") {
    return Response.empty({ status: 200, headers: { ...eventHeaders, "content-type": contentType } })
  }
  const events = yield* dashboard.open(headers["last-event-id"], isClosing(source))
  return Option.match(events, {
    onNone: () => plain(503, "There are as many viewers as there may be. Try again later.", { "retry-after": "10" }),
    onSome: (stream) => Response.stream(Stream.encodeText(stream), { contentType, headers: eventHeaders })
  })
})

/**
 * Samples the `Registry`, listens to the `EventBus`, and serves both as a page, for as long as somebody looks at it. With
 * nobody there it costs nothing.
 *
 * Who reaches the page sees the names of all instances: mount it where only operators come. Keep it out of load shedding,
 * or it is gone when it is needed: mount it outside of the protected app, or name its paths in `exclude`.
 *
 * @example
 * import { ResilienceLive } from "@effect-resilience/core"
 * import { Dashboard, HttpResilience } from "@effect-resilience/http"
 * import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
 * import { Layer } from "effect"
 *
 * const api = HttpRouter.empty.pipe(
 *   HttpRouter.get("/hello", HttpServerResponse.text("hello")),
 *   HttpRouter.use(HttpResilience.standard({ name: "api" }))
 * )
 * const app = HttpRouter.mount(api, "/resilience", Dashboard.router)
 *
 * const server = HttpServer.serve(app).pipe(
 *   Layer.provide([HttpResilience.Live, Dashboard.layer({ title: "Shop" })]),
 *   Layer.provide(ResilienceLive)
 * )
 *
 * @since 0.1.0
 * @category models
 */
export class Dashboard extends Context.Tag("@effect-resilience/http/Dashboard")<Dashboard, Dashboard.Service>() {
  static readonly Live: Layer.Layer<Dashboard, never, EventBus | Registry> = Layer.suspend(() => layer())

  /**
   * With options. It shows the system where there is a `SystemLoad`, what is overridden where there is an `Admin`, and all
   * processes where there is a `Fleet`.
   */
  static readonly layer = layer

  /** The page and its events: `HttpRouter.mount(router, path, Dashboard.router)`, or served by itself on another port. */
  static readonly router: HttpRouter.HttpRouter<never, Dashboard> = HttpRouter.empty.pipe(
    HttpRouter.get("/", pageHandler),
    HttpRouter.get("/events", eventsHandler)
  )

  /** The same for a `HttpLayerRouter`. */
  static readonly layerRouter = (
    path: `/${string}`
  ): Layer.Layer<never, never, Dashboard | LayerRouter.HttpRouter> =>
    LayerRouter.use((root) =>
      Effect.gen(function*() {
        const dashboard = yield* Dashboard
        const router = root.prefixed(path)
        yield* router.add("GET", "/", Effect.provideService(pageHandler, Dashboard, dashboard))
        yield* router.add("GET", "/events", Effect.provideService(eventsHandler, Dashboard, dashboard))
      })
    )
}

/**
 * @since 0.1.0
 */
export declare namespace Dashboard {
  /**
   * @since 0.1.0
   * @category models
   */
  export interface Service {
    /**
     * The events for one more page, for the length of the scope, from after the one that it had last; nothing where there
     * are enough pages. They end when `isClosing` says so at a sample.
     */
    readonly open: (
      lastEventId: string | undefined,
      isClosing: () => boolean
    ) => Effect.Effect<Option.Option<Stream.Stream<string>>, never, Scope>
    /** Pages that look on now. */
    readonly viewers: Effect.Effect<number>
    /** Samples taken so far. */
    readonly samples: Effect.Effect<number>
    /** @internal */
    readonly hosts: ReadonlyArray<string> | undefined
  }

  /**
   * @since 0.1.0
   * @category models
   */
  export interface Options {
    /** What the page is headed. Defaults to `"Resilience"`. */
    readonly title?: string | undefined
    /** The version of the program, for the heading. Defaults to none. */
    readonly version?: string | undefined
    /** Which of several processes this is, for the heading. Defaults to none. */
    readonly instance?: string | undefined
    /** How often it looks. At least 100 ms. Defaults to `"500 millis"`. */
    readonly interval?: DurationInput | undefined
    /** Pages at once; one more gets 503. Defaults to `16`. */
    readonly maxViewers?: number | undefined
    /** What is shown of errors: messages may hold what not every operator may see. Defaults to `"name"`. */
    readonly errors?: "name" | "message" | undefined
    /**
     * Whether it listens to the bus while nobody looks, so that the timeline shows what was before. Events are then built
     * for every call. Defaults to `false`.
     */
    readonly history?: boolean | undefined
    /**
     * The names by which this host is asked, without ports; others are refused with 421, so that no page whose name was
     * made to point here reads the figures. Defaults to names and addresses of this machine for what comes by its loopback
     * interface, and to all names for the rest.
     */
    readonly hosts?: ReadonlyArray<string> | undefined
    /**
     * Where `Admin.router` is mounted, as a browser sees it from the page: `"/admin"`, or `"../admin"` beside the page. Who
     * may act by it can then do so from the page. It is asked for nothing without this. Defaults to none.
     */
    readonly admin?: string | undefined
  }
}
