/**
 * A server in a process of its own: `server.js <kind> <work> <rounds>`. It tells its port, then the processor time it has
 * used whenever it is asked, and ends with its parent.
 */
import { NodeSystemLoad } from "@effect-resilience/core/node"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import underPressure from "@fastify/under-pressure"
import { Effect, Layer } from "effect"
import Fastify from "fastify"
import * as http from "node:http"
import { about, burn, type Kind, type Work } from "./work.js"

const [kind, work, rounds] = process.argv.slice(2) as [Kind, Work, string]

const tell = (server: http.Server) => {
  const address = server.address()
  process.send?.(typeof address === "object" ? address?.port : undefined)
}
process.on("message", () => {
  const { system, user } = process.cpuUsage()
  process.send?.((system + user) / 1e6)
})
process.on("disconnect", () => process.exit())

const connections = Effect.unsafeMakeSemaphore(10)
const handlers: Record<Work, Effect.Effect<string>> = {
  cpu: Effect.sync(() => burn(about(Number(rounds), 1 / 3))),
  io: connections.withPermits(1)(Effect.suspend(() => Effect.as(Effect.sleep(about(100, 1 / 2)), "done")))
}
const handler = handlers[work]

const serveEffect = () => {
  const server = http.createServer()
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/", Effect.map(handler, (text) => HttpServerResponse.text(text)))
  )
  const app = kind === "standard" ? router.pipe(HttpResilience.standard({ name: "api" })) : router
  const live = HttpServer.serve(app).pipe(
    Layer.provide(HttpResilience.Live),
    Layer.provide(NodeSystemLoad.Live),
    Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" })),
    Layer.tap(() => Effect.sync(() => tell(server)))
  )
  Effect.runFork(Layer.launch(live))
}

/** With the figures that its readme shows. */
const serveFastify = async () => {
  const app = Fastify()
  await app.register(underPressure, {
    maxEventLoopDelay: 1000,
    maxHeapUsedBytes: 100_000_000,
    maxRssBytes: 1_000_000_000,
    maxEventLoopUtilization: 0.98
  })
  app.get("/", () => Effect.runPromise(handler))
  await app.listen({ port: 0, host: "127.0.0.1" })
  tell(app.server)
}

if (kind === "under-pressure") await serveFastify()
else serveEffect()
