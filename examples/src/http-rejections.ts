/** What clients see when a request is turned away, as `curl -i` shows it. docs/http-server.md quotes the output. */
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Deferred, Effect, Layer } from "effect"
import { createServer, request } from "node:http"

const hello = HttpServerResponse.text("hello")

const makeApp = Effect.gen(function*() {
  const entered = yield* Deferred.make<void>()
  const busy = Effect.zipRight(Deferred.succeed(entered, void 0), Effect.never)
  const broken = Effect.succeed(HttpServerResponse.empty({ status: 500 }))
  const app = HttpRouter.empty.pipe(
    HttpRouter.get("/limited", hello.pipe(HttpResilience.rateLimit({ name: "limited", rate: "1/minute" }))),
    HttpRouter.get("/told", hello.pipe(HttpResilience.rateLimit({ name: "told", rate: "1/minute", detail: "full" }))),
    HttpRouter.get("/full", busy.pipe(HttpResilience.bulkhead({ name: "full", maxConcurrent: 1, maxQueued: 0 }))),
    HttpRouter.get(
      "/open",
      broken.pipe(HttpResilience.circuitBreaker({ name: "open", consecutiveFailures: 1, openDuration: "30 seconds" }))
    ),
    HttpRouter.get("/slow", Effect.never.pipe(HttpResilience.timeout({ name: "slow", duration: "20 millis" }))),
    HttpRouter.get("/patient", Effect.never.pipe(HttpResilience.standard({ name: "patient" })))
  )
  return { app, entered }
})

/** A response as text, without what says nothing of the rejection. */
const curl = (port: number, path: string, headers: Record<string, string>) =>
  Effect.async<string>((resume) => {
    const skipped = ["date", "connection", "keep-alive", "content-length"]
    const sent = request({ host: "127.0.0.1", port, path, headers, agent: false }, (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("end", () => {
        const lines = Object.entries(response.headers)
          .filter(([name]) => !skipped.includes(name))
          .map(([name, value]) => `${name}: ${String(value)}`)
          .sort()
        const text = Buffer.concat(chunks).toString()
        const body = text.startsWith("{") ? JSON.stringify(JSON.parse(text), null, 2) : text
        const status = `HTTP/1.1 ${response.statusCode} ${response.statusMessage}`
        resume(Effect.succeed([status, ...lines, "", body].join("\n")))
      })
    })
    sent.on("error", () => {})
    sent.end()
    return Effect.sync(() => sent.destroy())
  })

const cases: ReadonlyArray<readonly [title: string, path: string, headers?: Record<string, string>]> = [
  ["The rate of a client is used up.", "/limited"],
  ["The same with `detail: \"full\"`.", "/told"],
  ["All permits are in use.", "/full"],
  ["The circuit is open.", "/open"],
  ["A handler took too long.", "/slow"],
  ["The caller's own deadline passed.", "/patient", { "grpc-timeout": "20m" }]
]

const program = Effect.gen(function*() {
  const { app, entered } = yield* makeApp
  const server = createServer()
  const listening = NodeHttpServer.layer(() => server, { host: "127.0.0.1", port: 0 })
  const context = yield* Layer.build(Layer.merge(listening, HttpResilience.Live))
  yield* Effect.provide(HttpServer.serveEffect(app), context)
  // A server that closes waits for those it still has to answer.
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const address = server.address()
  const port = address !== null && typeof address === "object" ? address.port : 0

  for (const path of ["/limited", "/told", "/open"]) yield* curl(port, path, {})
  yield* Effect.fork(curl(port, "/full", {}))
  yield* Deferred.await(entered)
  for (const [title, path, headers = {}] of cases) {
    const flags = Object.entries(headers).map(([name, value]) => ` -H '${name}: ${value}'`).join("")
    const answer = yield* curl(port, path, headers)
    yield* Console.log(`${title}\n\n\`\`\`\n$ curl -i${flags} http://localhost:3000${path}\n${answer}\n\`\`\`\n`)
  }
})

NodeRuntime.runMain(Effect.scoped(program))
