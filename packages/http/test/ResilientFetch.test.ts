import { CircuitOpenError, Registry } from "@effect-resilience/core"
import type { ResilientHttpClient } from "@effect-resilience/http"
import { makeResilientFetch, resilientFetch } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Layer, Logger, Scope } from "effect"
import { execFile } from "node:child_process"
import { getEventListeners } from "node:events"
import type * as http from "node:http"
import { promisify } from "node:util"
import type { Seen } from "./utils/backend.js"
import { backend, deadPort } from "./utils/backend.js"
import { eventually, isWhole, quick, services } from "./utils/client.js"

/** A `fetch` with these options and a server, for a test without Effect. */
const test = (
  name: string,
  options: Omit<ResilientHttpClient.Options, "name">,
  handle: (response: http.ServerResponse, seen: Seen, count: number) => void,
  body: (
    fetch: typeof globalThis.fetch,
    server: Effect.Effect.Success<ReturnType<typeof backend>>
  ) => Promise<void>
) =>
  it.scopedLive(name, () =>
    Effect.gen(function*() {
      const server = yield* backend(handle)
      const fetch = yield* Effect.acquireRelease(
        Effect.sync(() => resilientFetch(globalThis.fetch, { name: "api", ...options })),
        (fetch) => Effect.promise(fetch.close)
      )
      yield* Effect.promise(() => body(fetch, server))
    }))

const codeOf = (error: unknown) => (error as { readonly cause?: { readonly code?: string } }).cause?.code

describe("resilientFetch", () => {
  it("keeps no process from its end, once its calls are over", async () => {
    const program = `
      import { resilientFetch } from "@effect-resilience/http"
      const answer = async (url) => {
        if (url.includes("refused")) throw new TypeError("refused")
        return new Response("read")
      }
      const fetch = resilientFetch(answer, { name: "api", retry: false })
      console.log(await (await fetch("http://read.test/")).text())
      await fetch("http://refused.test/").catch((error) => console.log(error.message))
    `
    const flags = ["--conditions=@effect-resilience/source", "--import", "tsx", "--input-type=module", "-e", program]
    const cwd = new URL("..", import.meta.url)
    // One that does not end is killed, and that is an error.
    const { stdout } = await promisify(execFile)(process.execPath, flags, { cwd, timeout: 25_000 })
    expect(stdout).toBe("read\nrefused\n")
  }, 30_000)

  test(
    "is called and answers as fetch does",
    {},
    (response, { body, headers, method }) => {
      response.writeHead(201, { "x-one": "1", "content-type": "application/json" })
      response.end(JSON.stringify({ method, body, type: headers["content-type"], own: headers["x-own"] }))
    },
    async (fetch, { url }) => {
      const plain = await fetch(`${url}/path?q=1`)
      expect([plain.status, plain.ok, plain.url, plain.headers.get("x-one"), plain.type, plain.redirected])
        .toEqual([201, true, `${url}/path?q=1`, "1", "basic", false])
      expect(await plain.json()).toEqual({ method: "GET", body: "" })
      const posted = await fetch(new URL(url), { method: "POST", body: "text", headers: [["x-own", "2"]] })
      expect(await posted.json()).toEqual({ method: "POST", body: "text", type: "text/plain;charset=UTF-8", own: "2" })
      const request = new Request(url, { method: "PUT", body: "of a request", headers: { "x-own": "3" } })
      expect(await (await fetch(request)).json()).toMatchObject({ method: "PUT", body: "of a request", own: "3" })
      const form = new URLSearchParams({ a: "1" })
      expect(await (await fetch(url, { method: "POST", body: form })).json()).toMatchObject({ body: "a=1" })
    }
  )

  test(
    "retries what may be sent twice, and nothing else",
    { retry: quick, circuitBreaker: false },
    (response, _, count) => response.writeHead(count % 3 === 0 ? 200 : 503).end(`answer ${count}`),
    async (fetch, { seen, url }) => {
      expect(await (await fetch(url)).text()).toBe("answer 3")
      const body = new Blob(["again"])
      expect((await fetch(url, { method: "PUT", body })).status).toBe(200)
      expect(seen.splice(0).map(({ body }) => body)).toEqual(["", "", "", "again", "again", "again"])
      expect((await fetch(url, { method: "POST", body: "once" })).status).toBe(503)
      const stream = () => new Blob(["once"]).stream()
      const streamed: RequestInit & { duplex: string } = { method: "PUT", body: stream(), duplex: "half" }
      expect((await fetch(url, streamed)).status).toBe(503)
      expect(seen.map(({ body }) => body)).toEqual(["once", "once"])
    }
  )

  for (const redirect of ["follow", "manual"] as const) {
    test(
      `sends a POST once, where what it is led to is down (redirect: ${redirect})`,
      { retry: quick, circuitBreaker: false },
      (response, { path }) => response.writeHead(303, { location: decodeURIComponent(path.slice(1)) }).end(),
      async (fetch, { seen, url }) => {
        const dead = `http://127.0.0.1:${await Effect.runPromise(deadPort)}/`
        const post = { method: "POST", body: "once", redirect }
        const led = await fetch(`${url}/${encodeURIComponent(dead)}`, post).catch(codeOf)
        expect(redirect === "follow" ? led : (led as Response).status).toBe(
          redirect === "follow" ? "ECONNREFUSED" : 303
        )
        expect(seen).toHaveLength(1)
        let sent = 0
        const counting = resilientFetch(
          (input: string, init?: RequestInit) => (sent++, globalThis.fetch(input, init)),
          {
            name: "counting",
            retry: quick,
            circuitBreaker: false
          }
        )
        expect(await counting(dead, post).catch(codeOf)).toBe("ECONNREFUSED")
        expect(sent).toBe(redirect === "follow" ? 1 : 3)
        await counting.close()
      }
    )
  }

  test(
    "a signal of null detaches a request from its own, as it does for fetch",
    {},
    (response) => response.end("hello"),
    async (fetch, { url }) => {
      const request = new Request(url, { signal: AbortSignal.abort(new Error("mine")) })
      await expect(fetch(request)).rejects.toThrow("mine")
      expect(await (await fetch(request, { signal: null })).text()).toBe("hello")
    }
  )

  test(
    "rejects with the reason of its signal: before, during, and while the body is read",
    { retry: quick },
    (response, { path }) => {
      if (path === "/body") response.writeHead(200).write("begun")
    },
    async (fetch, { cuts, seen, url }) => {
      const reason = new Error("mine")
      await expect(fetch(url, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
      expect(seen).toHaveLength(0)
      const during = new AbortController()
      const hanging = fetch(url, { signal: during.signal })
      await Effect.runPromise(eventually(Effect.sync(() => seen.length === 1)))
      during.abort()
      await expect(hanging).rejects.toMatchObject({ name: "AbortError" })
      const reading = new AbortController()
      const response = await fetch(`${url}/body`, { signal: reading.signal })
      const text = response.text()
      reading.abort(reason)
      await expect(text).rejects.toBe(reason)
      expect(getEventListeners(reading.signal, "abort")).toEqual([])
      await Effect.runPromise(eventually(Effect.sync(() => cuts.count === 2)))
      expect(seen).toHaveLength(2)
    }
  )

  test(
    "rejects as fetch would: with a TimeoutError, with the transport's error, and with ours where the circuit is open",
    { retry: false, attemptTimeout: "100 millis", circuitBreaker: { minimumCalls: 2 } },
    () => {},
    async (fetch, { url }) => {
      await expect(fetch(url)).rejects.toMatchObject({ name: "TimeoutError" })
      await expect(fetch(url)).rejects.toBeInstanceOf(DOMException)
      await expect(fetch(url)).rejects.toBeInstanceOf(CircuitOpenError)
      const port = await Effect.runPromise(deadPort)
      const error: unknown = await fetch(`http://127.0.0.1:${port}`).catch((error: unknown) => error)
      expect(error).toBeInstanceOf(TypeError)
      expect(codeOf(error)).toBe("ECONNREFUSED")
    }
  )

  it.scopedLive("tells nobody of the deadline where fetch would follow a redirect with it, and says so once", () =>
    Effect.gen(function*() {
      const foreign = yield* backend((response) => response.end("foreign"))
      const own = yield* backend((response) => response.writeHead(302, { location: foreign.url }).end())
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => warnings.push(String(message)))
      const fetch = yield* makeResilientFetch(globalThis.fetch, {
        name: "api",
        propagate: { hosts: [`127.0.0.1:${own.port}`] }
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      const get = (redirect?: "manual") =>
        Effect.promise(() => fetch(own.url, redirect === undefined ? {} : { redirect }))
      for (let call = 0; call < 2; call++) expect((yield* get()).url).toBe(`${foreign.url}/`)
      expect(warnings).toEqual([
        `ResilientHttpClient "api": propagate tells 127.0.0.1:${own.port} nothing, for fetch would take it to wherever ` +
        `a redirect leads. Say { redirect: "manual" }`
      ])
      expect((yield* get("manual")).status).toBe(302)
      const told = [...own.seen, ...foreign.seen].map(({ headers }) => headers["x-request-timeout-ms"] !== undefined)
      expect(told).toEqual([false, false, true, false, false])
    }).pipe(Effect.provide(services)))

  test(
    "what a redirect leads to says nothing against the server that leads there",
    { retry: false, circuitBreaker: { minimumCalls: 3 }, heedRateLimit: {} },
    (response, { path }) => {
      if (path === "/ill") response.writeHead(503, { "retry-after": "60" }).end()
      else response.writeHead(302, { location: decodeURIComponent(path.slice(1)) }).end()
    },
    async (fetch, { url }) => {
      const other = await Effect.runPromise(deadPort)
      for (let call = 0; call < 5; call++) {
        const dead = encodeURIComponent(`http://127.0.0.1:${other}`)
        expect(await fetch(`${url}/${dead}`).catch(codeOf)).toBe("ECONNREFUSED")
      }
      const ill = `http://localhost:${new URL(url).port}/ill`
      for (let call = 0; call < 5; call++) {
        expect((await fetch(`${url}/${encodeURIComponent(ill)}`)).status).toBe(503)
      }
      expect((await fetch(`${url}/${encodeURIComponent("/ill")}`)).status).toBe(503)
      await expect(fetch(`${url}/ill`)).rejects.toMatchObject({ instance: "api/paced" })
    }
  )

  for (const form of ["close", "the end of the context"] as const) {
    it.scopedLive(`${form} ends what runs: calls, their pauses, and bodies`, () =>
      Effect.gen(function*() {
        const { cuts, seen, url } = yield* backend((response, { path }) => {
          if (path === "/body") response.writeHead(200).write("x".repeat(100_000))
          if (path === "/again") response.writeHead(503, { "retry-after": "30" }).end()
        })
        const scope = yield* Scope.make()
        const options = { name: "api", timeout: "1 minute" } as const
        const own = form === "close" ? resilientFetch(globalThis.fetch, options) : undefined
        const fetch = own ??
          (yield* Effect.flatMap(Layer.buildWithScope(services, scope), (context) =>
            Effect.provide(makeResilientFetch(globalThis.fetch, options), context)))
        const body = yield* Effect.promise(() =>
          fetch(`${url}/body`)
        )
        const failed = (promise: Promise<unknown>) => promise.then(() => "answered", (error: unknown) => error)
        const text = failed(body.text())
        const calls = ["/hanging", "/again"].map((path) => failed(fetch(url + path)))
        yield* eventually(Effect.sync(() => seen.length === 3))
        yield* Effect.sleep("100 millis")
        yield* own === undefined ? Scope.close(scope, Exit.void) : Effect.promise(own.close)
        const ended = Effect.promise(() => Promise.all([text, ...calls])).pipe(Effect.timeout("2 seconds"))
        const [read, ...errors] = yield* ended
        expect(read).toBeInstanceOf(Error)
        for (const error of errors) {
          expect(error).toMatchObject({ name: "AbortError", message: `resilientFetch "api" was closed` })
        }
        yield* eventually(Effect.sync(() => cuts.count === 2))
        expect(yield* Effect.promise(() => failed(fetch(url)))).toBeInstanceOf(Error)
        expect(seen).toHaveLength(3)
      }))
  }

  it.scopedLive("with the instances of the context: permits come back when a body is read, cancelled or not there", () =>
    Effect.gen(function*() {
      const { url } = yield* backend((response, { path }) => {
        if (path === "/none") response.writeHead(204).end()
        else if (path === "/large") response.end(Buffer.alloc(5_000_000))
        else {
          response.writeHead(200)
          response.write("begun")
          if (path === "/all") response.end(" and ended".repeat(10_000))
        }
      })
      const fetch = yield* makeResilientFetch(globalThis.fetch, { name: "api", bodyIdleTimeout: "300 millis" })
      const get = (path: string) => Effect.promise(() => fetch(url + path))
      expect((yield* Registry.list).some(({ instance, pattern }) => pattern === "Bulkhead" && instance === "api")).toBe(
        true
      )
      yield* get("/none")
      expect(yield* isWhole("api")).toBe(true)
      const all = yield* get("/all")
      expect(yield* isWhole("api")).toBe(false)
      expect((yield* Effect.promise(() => all.text())).length).toBe(100_005)
      expect(yield* isWhole("api")).toBe(true)
      const cancelled = yield* get("/cancelled")
      expect(yield* isWhole("api")).toBe(false)
      yield* Effect.promise(() => cancelled.body?.cancel() ?? Promise.resolve())
      expect(yield* isWhole("api")).toBe(true)
      const begun = yield* get("/large")
      const reader = begun.body?.getReader()
      yield* Effect.promise(async () => expect((await reader?.read())?.value?.length).toBeGreaterThan(0))
      expect(yield* isWhole("api")).toBe(false)
      yield* Effect.promise(() => reader?.cancel() ?? Promise.resolve())
      expect(yield* isWhole("api")).toBe(true)
      yield* get("/unread")
      expect(yield* isWhole("api")).toBe(false)
      yield* eventually(isWhole("api"))
    }).pipe(Effect.provide(services)))
})
