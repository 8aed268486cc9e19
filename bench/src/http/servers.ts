/** The servers that are measured: each a process of its own, told by its name, which tells its port. */
import { NodeSystemLoad } from "@effect-resilience/core/node"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import fastifyRateLimit from "@fastify/rate-limit"
import underPressure from "@fastify/under-pressure"
import { Effect, Layer } from "effect"
import express from "express"
import { rateLimit } from "express-rate-limit"
import fastify from "fastify"
import { createServer } from "node:http"
import type { AddressInfo, Server } from "node:net"

/** What all of them answer. */
const body = JSON.stringify({ hello: "world" })
/** So high that nobody is turned away. */
const limit = 1_000_000_000

type Start = () => Promise<number>

const portOf = (server: Server) => (server.address() as AddressInfo).port

const router = HttpRouter.empty.pipe(
  HttpRouter.get("/", HttpServerResponse.text(body, { contentType: "application/json" }))
)

const onEffect = (app: typeof router | ReturnType<typeof standard>, resilience = HttpResilience.Live): Start => () => {
  const server = createServer()
  const live = HttpServer.serve(app).pipe(
    Layer.provide(resilience),
    Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
  )
  return new Promise((resolve, reject) => {
    server.once("listening", () => resolve(portOf(server)))
    Effect.runPromise(Layer.launch(live)).catch(reject)
  })
}
const standard = (options: Omit<HttpResilience.Options, "name">) =>
  router.pipe(HttpResilience.standard({ name: "api", ...options }))
/** What is like @fastify/rate-limit and @fastify/under-pressure: a limit, and the signals of the system. */
const likeFastify: Omit<HttpResilience.Options, "name"> = {
  rateLimit: { rate: `${limit}/minute` },
  loadShedder: { cpu: 1, eventLoopDelay: "1 second" }
}
const withSignals = HttpResilience.Live.pipe(Layer.provide(NodeSystemLoad.Live))

const overExpress = (...middleware: ReadonlyArray<express.RequestHandler>): Start => () =>
  new Promise((resolve) => {
    const app = express()
    for (const one of middleware) app.use(one)
    app.get("/", (_, response) => {
      response.type("application/json").send(body)
    })
    const server = app.listen(0, "127.0.0.1", () => resolve(portOf(server)))
  })

const overFastify = (isProtected: boolean): Start => async () => {
  const app = fastify()
  if (isProtected) {
    await app.register(underPressure, { maxEventLoopDelay: 1000, maxHeapUsedBytes: 1e9, maxRssBytes: 2e9 })
    await app.register(fastifyRateLimit, { max: limit, timeWindow: "1 minute" })
  }
  app.get("/", (_, reply) => reply.type("application/json").send(body))
  await app.listen({ port: 0, host: "127.0.0.1" })
  return portOf(app.server)
}

const servers: Record<string, Start> = {
  "router": onEffect(router),
  "standard": onEffect(standard({})),
  "standard, rate limit, signals": onEffect(standard(likeFastify), withSignals),
  "express": overExpress(),
  "express-rate-limit": overExpress(
    rateLimit({ windowMs: 60_000, limit, standardHeaders: "draft-8", legacyHeaders: false })
  ),
  "fastify": overFastify(false),
  "@fastify/rate-limit + under-pressure": overFastify(true)
}

process.on("message", () => process.send?.({ cpu: process.cpuUsage() }))
process.on("disconnect", () => process.exit(0))
const start = servers[process.argv[2] ?? ""]
if (start === undefined) throw new Error(`there is no server ${process.argv[2]}`)
process.send?.({ port: await start() })
