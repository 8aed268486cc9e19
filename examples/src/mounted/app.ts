/** An app that is protected, and knows nothing of the framework that it will be mounted in. */
import { ResilienceLive } from "@effect-resilience/core"
import { ClientIp, Drain, Health, HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Layer, ManagedRuntime, Option, Schedule, Stream } from "effect"

const echo = Effect.flatMap(
  HttpServerRequest.HttpServerRequest,
  (request) => Effect.flatMap(request.json, HttpServerResponse.json)
)

const whoAmI = Effect.flatMap(ClientIp, (address) => HttpServerResponse.json({ you: Option.getOrNull(address) }))

const endless = Stream.repeat(Stream.make(new Uint8Array(1024)), Schedule.spaced("10 millis"))

export const app = HttpRouter.empty.pipe(
  HttpRouter.get("/hello", whoAmI),
  HttpRouter.post("/echo", echo),
  HttpRouter.get("/slow", Effect.as(Effect.sleep("1 minute"), HttpServerResponse.text("at last"))),
  HttpRouter.get("/stream", HttpServerResponse.stream(endless)),
  Health.route(),
  // Paths are those that the app sees: without what it is mounted at.
  HttpResilience.standard({
    name: "mounted",
    clientIp: ClientIp.fromSocket,
    rateLimit: { rate: "10/minute" },
    bulkhead: { maxConcurrent: 10 }
  }),
  Drain.middleware
)

/** What the app needs, for as long as the server is there. */
export const runtime = ManagedRuntime.make(
  HttpResilience.Live.pipe(
    Layer.provideMerge(Drain.layer({ delay: 0 })),
    Layer.provideMerge(ResilienceLive)
  )
)
