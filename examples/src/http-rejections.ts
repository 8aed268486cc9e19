/** What clients see when a request is turned away, as `curl -i` shows it. docs/http-rejections.md quotes the output. */
import { Limit } from "@effect-resilience/core"
import { Drain, HttpResilience, Idempotency, IdempotencyStore, IdempotencyStoreError } from "@effect-resilience/http"
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Logger, LogLevel, Ref, Schedule } from "effect"
import { createServer, request as send } from "node:http"

const hello = HttpServerResponse.text("hello")
const broken = HttpServerResponse.empty({ status: 500 })

/** A store that is out of reach. */
const storeDown = new IdempotencyStoreError({ operation: "begin", reason: "Unavailable" })
const NoStore = Layer.succeed(IdempotencyStore, {
  begin: () => Effect.fail(storeDown),
  complete: () => Effect.fail(storeDown),
  release: () => Effect.fail(storeDown)
})

const payments = { principal: Idempotency.anybody, required: true }

const makeApp = Effect.gen(function*() {
  const entered = yield* Ref.make(0)
  /** A handler that never ends. */
  const busy = Effect.zipRight(Ref.update(entered, (n) => n + 1), Effect.never)
  const app = HttpRouter.empty.pipe(
    HttpRouter.get("/", hello),
    HttpRouter.get("/limited", hello.pipe(HttpResilience.rateLimit({ name: "limited", rate: "1/minute" }))),
    HttpRouter.get("/told", hello.pipe(HttpResilience.rateLimit({ name: "told", rate: "1/minute", detail: "full" }))),
    HttpRouter.get(
      "/bulkhead",
      busy.pipe(HttpResilience.bulkhead({ name: "bulkhead", maxConcurrent: 1, maxQueued: 0 }))
    ),
    HttpRouter.get(
      "/adaptive",
      busy.pipe(
        HttpResilience.adaptiveConcurrency({ name: "adaptiveConcurrency", algorithm: Limit.fixed(1), maxQueued: 0 })
      )
    ),
    HttpRouter.get(
      "/backpressure",
      busy.pipe(HttpResilience.backpressure({ name: "backpressure", maxPending: 1, maxWait: 0 }))
    ),
    HttpRouter.get(
      "/shed",
      busy.pipe(HttpResilience.loadShedder({ name: "loadShedder", maxInFlight: 1, maxQueueDepth: 0 }))
    ),
    HttpRouter.get(
      "/open",
      broken.pipe(HttpResilience.circuitBreaker({ name: "open", consecutiveFailures: 1, openDuration: "30 seconds" }))
    ),
    HttpRouter.get("/slow", Effect.never.pipe(HttpResilience.timeout({ name: "slow", duration: "20 millis" }))),
    HttpRouter.get("/patient", Effect.never.pipe(HttpResilience.standard({ name: "patient" }))),
    HttpRouter.post(
      "/payments",
      hello.pipe(Idempotency.middleware({ ...payments, name: "payments", maxBodySize: 64 }))
    ),
    HttpRouter.post("/transfers", busy.pipe(Idempotency.middleware({ ...payments, name: "transfers" }))),
    HttpRouter.post(
      "/refunds",
      hello.pipe(Idempotency.middleware({ ...payments, name: "refunds" }), Effect.provide(NoStore))
    ),
    Drain.middleware
  )
  return { app, entered: Ref.get(entered) }
})

interface Request {
  readonly path: string
  readonly headers?: Record<string, string>
  /** Sent by `POST`. */
  readonly body?: string
}

/** The command that sends a request. */
const command = ({ body, headers = {}, path }: Request) =>
  [
    "$ curl -i",
    ...Object.entries(headers).map(([name, value]) => `-H '${name}: ${value}'`),
    ...(body === undefined ? [] : [`-d '${body}'`]),
    `http://localhost:3000${path}`
  ].join(" ")

/** A response as text, without what says nothing of the rejection. */
const curl = (port: number, { body, headers, path }: Request) =>
  Effect.async<string>((resume) => {
    const skipped = ["date", "keep-alive", "content-length", "transfer-encoding"]
    // As curl asks for it: what is closed is closed by the server.
    const kept = { connection: "keep-alive", ...headers }
    const method = body === undefined ? "GET" : "POST"
    const sent = send({ host: "127.0.0.1", port, path, method, headers: kept, agent: false }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("end", () => {
        const lines = Object.entries(response.headers)
          .filter(([name, value]) => !skipped.includes(name) && value !== "keep-alive")
          .map(([name, value]) => `${name}: ${String(value)}`)
          .sort()
        const text = Buffer.concat(chunks).toString()
        const body = text.startsWith("{") ? JSON.stringify(JSON.parse(text), null, 2) : text
        const status = `HTTP/1.1 ${response.statusCode} ${response.statusMessage}`
        resume(Effect.succeed([status, ...lines, "", body].join("\n")))
      })
    })
    sent.on("error", () => {})
    sent.end(body)
    return Effect.sync(() => sent.destroy())
  })

const key = (value: string) => ({ "Idempotency-Key": value })

/** All requests of a case are answered alike. */
const cases: ReadonlyArray<readonly [title: string, status: number, ...requests: ReadonlyArray<Request>]> = [
  ["The rate of a client is used up.", 429, { path: "/limited" }],
  ["The same with `detail: \"full\"`, which each part takes.", 429, { path: "/told" }],
  [
    "There is no room: a bulkhead, an adaptive limit, backpressure, the load shedder.",
    503,
    { path: "/bulkhead" },
    { path: "/adaptive" },
    { path: "/backpressure" },
    { path: "/shed" }
  ],
  ["The circuit is open.", 503, { path: "/open" }],
  ["A handler took too long; the caller's own deadline passed, or had passed before.", 504, { path: "/slow" }, {
    path: "/patient",
    headers: { "grpc-timeout": "20m" }
  }, { path: "/patient", headers: { "x-request-timeout-ms": "0" } }],
  ["An `Idempotency-Key` is required.", 400, { path: "/payments", body: "{}" }],
  ["It cannot be read.", 400, { path: "/payments", headers: key("\"\""), body: "{}" }],
  ["A request with this key is under way.", 409, { path: "/transfers", headers: key("\"a\""), body: "{}" }],
  ["The key was used for another request.", 422, {
    path: "/payments",
    headers: key("\"a\""),
    body: "{ \"to\": \"me\" }"
  }],
  ["The body of a request with a key is too large.", 413, {
    path: "/payments",
    headers: key("\"b\""),
    body: "0123456789".repeat(7)
  }],
  ["The store of the keys does not answer.", 503, { path: "/refunds", headers: key("\"a\""), body: "{}" }]
]

/** What was used up, filled or begun before. */
const before: ReadonlyArray<Request> = [
  ...["/limited", "/told", "/open"].map((path) => ({ path })),
  { path: "/payments", headers: key("\"a\""), body: "{}" }
]
/** What is under way for ever. */
const underWay: ReadonlyArray<Request> = [
  ...["/bulkhead", "/adaptive", "/backpressure", "/shed"].map((path) => ({ path })),
  { path: "/transfers", headers: key("\"a\""), body: "{}" }
]

/** Times and traces differ. */
const timeless = (answer: string) => answer.replace(/retry-after: \d+|urn:uuid:[\w-]+/g, "…")

const until = <A>(state: Effect.Effect<A>, isSo: (state: A) => boolean) =>
  Effect.timeout(Effect.repeat(state, { until: isSo, schedule: Schedule.spaced("5 millis") }), "10 seconds")

const program = Effect.gen(function*() {
  const { app, entered } = yield* makeApp
  const server = createServer()
  const listening = NodeHttpServer.layer(() => server, { host: "127.0.0.1", port: 0 })
  const Services = Layer.mergeAll(
    HttpResilience.Live,
    IdempotencyStore.layerMemory(),
    Drain.layer({ delay: 0, limit: "1 minute" }),
    // That a store fails is logged.
    Logger.minimumLogLevel(LogLevel.Error)
  )
  const context = yield* Layer.build(Layer.merge(listening, Services))
  yield* Effect.provide(HttpServer.serveEffect(app), context)
  // A server that closes waits for those it still has to answer.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const address = server.address()
  const port = address !== null && typeof address === "object" ? address.port : 0

  const show = (title: string, status: number, requests: ReadonlyArray<Request>) =>
    Effect.gen(function*() {
      const answers = yield* Effect.forEach(requests, (request) => curl(port, request))
      const [first = ""] = answers
      if (answers.some((answer) => timeless(answer) !== timeless(first) || !answer.startsWith(`HTTP/1.1 ${status} `))) {
        return yield* Effect.dieMessage(`Not ${status}, or not all alike:\n${answers.join("\n\n")}`)
      }
      yield* Console.log(`${title}\n\n\`\`\`\n${requests.map(command).join("\n")}\n${first}\n\`\`\`\n`)
    })

  for (const request of before) yield* curl(port, request)
  for (const request of underWay) yield* Effect.fork(curl(port, request))
  yield* until(entered, (count) => count === underWay.length)
  for (const [title, status, ...requests] of cases) yield* show(title, status, requests)
  yield* Effect.forkScoped(Effect.provide(Drain.drain, context))
  yield* until(Effect.provide(Drain.phase, context), (phase) => phase === "Refusing")
  yield* show("The server goes down.", 503, [{ path: "/" }])
})

NodeRuntime.runMain(Effect.scoped(program))
