import { Registry, ResilienceLive, SystemLoad } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { Effect, Layer, Schedule } from "effect"
import * as net from "node:net"

/** A machine that is not busy, whatever runs beside the tests. */
export const idle = { eventLoopDelay: "1 minute" } as const
export const Live = HttpResilience.Live.pipe(
  Layer.provide(SystemLoad.layerTest({ cpu: 0, memory: 0 })),
  Layer.provideMerge(ResilienceLive)
)

/** What each instance holds that holds anything. */
const held = Effect.map(
  Registry.snapshot,
  ({ instances }) =>
    Object.fromEntries(instances.flatMap(({ instance, metrics, pattern }) => {
      const { active, pending, running } = metrics as Record<string, unknown>
      const count = active ?? pending ?? running
      return typeof count === "number" && count > 0 && pattern !== "Timeout" ? [[`${pattern} ${instance}`, count]] : []
    }))
)
/** Waits until that is held and nothing else. */
export const holds = (expected: Record<string, number>) =>
  held.pipe(
    Effect.repeat({
      schedule: Schedule.spaced("5 millis"),
      until: (found) => JSON.stringify(found) === JSON.stringify(expected)
    }),
    Effect.timeout("5 seconds"),
    Effect.orDie
  )

export const one = { maxConcurrent: 1, maxQueued: 0 } as const
/** Asks for an upgrade; the status line of what comes back, and the socket. */
export const upgrade = (port: number, path: string, fields = "Upgrade: websocket\r\nConnection: keep-alive, Upgrade") =>
  Effect.acquireRelease(
    Effect.async<{ readonly status: number; readonly socket: net.Socket }>((resume) => {
      const socket = net.connect(port, "127.0.0.1")
      socket.on("error", () => {})
      socket.once("data", (data) => resume(Effect.succeed({ status: Number(String(data).split(" ")[1]), socket })))
      const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
      socket.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n${fields}\r\n${key}\r\n\r\n`)
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )
export const socketRoute = HttpRouter.get(
  "/socket",
  Effect.gen(function*() {
    const socket = yield* HttpServerRequest.upgrade
    yield* Effect.ignore(socket.run(() => Effect.void))
    return HttpServerResponse.empty()
  })
)
