/** What a client sees of the mounted app, and that everything it took is back. */
import { type Bulkhead, Registry } from "@effect-resilience/core"
import { Drain } from "@effect-resilience/http"
import { Console, Effect, Schedule } from "effect"
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { runtime } from "./app.js"

const permits = Effect.map(Registry.snapshot, ({ instances }) => {
  const found = instances.find(({ pattern, instance }) => pattern === "Bulkhead" && instance === "mounted")
  return (found?.metrics as Bulkhead.Metrics | undefined)?.active ?? 0
})
/** Waits until so many permits are held. */
const held = (count: number) =>
  permits.pipe(
    Effect.repeat({ schedule: Schedule.spaced("10 millis"), until: (active) => active === count }),
    Effect.timeout("5 seconds")
  )

const program = (url: string) =>
  Effect.gen(function*() {
    const send = (path: string, init?: RequestInit) =>
      Effect.promise((signal) => fetch(url + path, { signal, ...init }))
    const show = (title: string, path: string, status: number, init?: RequestInit) =>
      Effect.gen(function*() {
        const response = yield* send(path, init)
        const text = yield* Effect.promise(() => response.text())
        const body = text.length > 100 ? `${text.slice(0, 100)}…` : text
        const { headers } = response
        const fields = ["ratelimit", "retry-after"].filter((name) => headers.has(name))
          .map((name) => `  ${name}: ${headers.get(name)}\n`)
        yield* Console.log(`${title}\n  ${path} -> ${response.status}\n${fields.join("")}  ${body}\n`)
        if (response.status !== status) yield* Effect.dieMessage(`This was to be ${status}`)
      })

    yield* show("Served, by the address of the socket.", "/shop/hello", 200)
    yield* show("A body is read by the app.", "/shop/echo", 200, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ title: "Emma" })
    })
    const waiting = new AbortController()
    yield* Effect.fork(Effect.exit(send("/shop/slow", { signal: waiting.signal })))
    yield* held(1)
    waiting.abort()
    yield* held(0)
    yield* Console.log("A client went away while it waited: its permit is back.\n")
    const reading = new AbortController()
    const { body } = yield* send("/shop/stream", { signal: reading.signal })
    yield* Effect.promise(() => body?.getReader().read() ?? Promise.reject(new Error("There is no body")))
    yield* held(1)
    reading.abort()
    yield* held(0)
    yield* Console.log("A client went away while it read: its permit is back.\n")
    yield* Effect.repeatN(send("/shop/hello"), 9)
    yield* show("A client that asks too much.", "/shop/hello", 429)
    yield* show("What is excluded is excluded where it is mounted.", "/shop/health", 200)
    yield* show("The framework's own routes are its own.", "/own", 200)
    yield* held(0)
    const { interrupted } = yield* Drain.drain
    yield* Console.log(`Drained: ${interrupted} requests were interrupted, ${yield* permits} permits are held.`)
  })

/** Runs the checks against a server that listens, and closes it. */
export const check = async (server: Server): Promise<void> => {
  try {
    await runtime.runPromise(program(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
  } finally {
    server.close()
    server.closeAllConnections()
    await runtime.dispose()
  }
}
