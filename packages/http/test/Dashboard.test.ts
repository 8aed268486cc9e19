import {
  Bulkhead,
  CircuitBreaker,
  EventBus,
  LoadShedder,
  Priority,
  Registry,
  ResilienceLive
} from "@effect-resilience/core"
import { openInstance } from "@effect-resilience/core/extension"
import { Admin, Dashboard, HttpResilience, IdempotencyStoreError, ResilientHttpClient } from "@effect-resilience/http"
import { HttpLayerRouter, HttpRouter, HttpServerResponse } from "@effect/platform"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Context,
  Effect,
  Exit,
  Fiber,
  Layer,
  Option,
  Ref,
  Schedule,
  Schema,
  Scope,
  Stream,
  TestClock
} from "effect"
import * as http from "node:http"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { checkHost } from "../src/internal/hosts.js"
import { quick, resilient } from "./utils/client.js"
import { eventually, openViewer, parseEvents } from "./utils/events.js"
import { fetchNode, serveNode } from "./utils/servers.js"

const live = (options: Dashboard.Options = {}) =>
  Layer.mergeAll(Dashboard.layer({ interval: "100 millis", ...options }), HttpResilience.Live).pipe(
    Layer.provideMerge(ResilienceLive)
  )

const mounted = HttpRouter.mount(HttpRouter.empty, "/ops/resilience", Dashboard.router)
const stays = () => false
const get = (url: string, options?: Parameters<typeof fetchNode>[1]) => Effect.promise(() => fetchNode(url, options))

class DownError extends Error {
  readonly _tag = "DownError"
}
const fail = Effect.fail(new DownError("password is hunter2"))

describe("the page", () => {
  it.scopedLive("is one document that lets nothing else in", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(mounted)
      const one = yield* get(`${url}/ops/resilience`)
      const two = yield* get(`${url}/ops/resilience/`)
      expect([one?.status, two?.status]).toEqual([200, 200])
      const nonceOf = (answer: typeof one) =>
        /'nonce-([^']+)'/.exec(String(answer?.headers["content-security-policy"]))?.[1]
      const nonce = nonceOf(one)
      expect(nonce?.length).toBeGreaterThanOrEqual(20)
      expect(nonceOf(two)).not.toBe(nonce)
      expect(one?.headers).toMatchObject({
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff"
      })
      expect(String(one?.headers["content-security-policy"])).toMatch(/^default-src 'none'; /)
      const body = one?.body ?? ""
      // Every script and style has the nonce, and none is elsewhere.
      for (const tag of body.match(/<(?:script|style)\b[^>]*>/g) ?? []) expect(tag).toContain(`nonce="${nonce}"`)
      expect(body).not.toMatch(/\b(?:src|srcset)=|url\(|@import|innerHTML/)
      expect([...body.matchAll(/https?:\/\/[^"'`\s]*/g)].map(([found]) => found)).toEqual([
        "http://www.w3.org/2000/svg"
      ])
      expect(Buffer.byteLength(body)).toBeLessThan(60_000)
    }).pipe(Effect.provide(live())))

  it.scopedLive("is served by itself, and by a layer router", () =>
    Effect.gen(function*() {
      const alone = yield* serveNode(Dashboard.router)
      expect((yield* get(alone.url))?.status).toBe(200)

      const server = http.createServer()
      yield* Layer.build(
        HttpLayerRouter.serve(Dashboard.layerRouter("/deep/down")).pipe(
          Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
        )
      )
      const address = server.address()
      const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
      expect((yield* get(`${url}/deep/down`))?.body).toContain("<!doctype html>")
      const { told } = yield* openViewer(`${url}/deep/down/events`)
      yield* eventually(() => told()[0]?.event === "snapshot")
    }).pipe(Effect.provide(live())))

  it.scopedLive("is reached when all else is turned away, where its paths are excluded", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(mounted.pipe(
        HttpRouter.get("/", HttpServerResponse.text("hello")),
        HttpResilience.rateLimit({ name: "api", rate: "1/hour", exclude: ["/ops/resilience/**"] })
      ))
      yield* get(url)
      expect((yield* get(url))?.status).toBe(429)
      expect((yield* get(`${url}/ops/resilience`))?.status).toBe(200)
      const { told } = yield* openViewer(`${url}/ops/resilience/events`)
      yield* eventually(() => told()[0]?.event === "snapshot")
    }).pipe(Effect.provide(live())))
})

describe("a page of elsewhere", () => {
  const heads = (url: string, headers: Record<string, string>) =>
    Effect.map(
      Effect.all([get(`${url}/`, { headers }), get(`${url}/events`, { method: "HEAD", headers })]),
      (answers) => answers.map((answer) => answer?.status)
    )

  it.scopedLive("HT28: reads nothing by a name that was made to point here", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(Dashboard.router)
      const others = ["evil.example", `evil.example:${port}`, "localhost.evil.example", "127.0.0.1.evil.example"]
      for (const host of others) {
        expect([host, yield* heads(url, { host })]).toEqual([host, [421, 421]])
      }
      for (const host of ["localhost", `LOCALHOST:${port}`, "shop.localhost", `127.0.0.1:${port}`, `[::1]:${port}`]) {
        expect([host, yield* heads(url, { host })]).toEqual([host, [200, 200]])
      }
      const refused = yield* get(`${url}/events`, { headers: { host: "evil.example" } })
      expect(refused).toMatchObject({
        body: "The host that the request names is not this machine, nor among `hosts`.",
        headers: { "cache-control": "no-store" }
      })
    }).pipe(Effect.provide(live())))

  it.scopedLive("reads nothing by a name that is not among those that are given", () =>
    Effect.gen(function*() {
      const { port, url } = yield* serveNode(Dashboard.router)
      for (const host of ["ops.example.com", `Ops.Example.COM:${port}`]) {
        expect([host, yield* heads(url, { host })]).toEqual([host, [200, 200]])
      }
      for (const host of ["example.com", "localhost", `127.0.0.1:${port}`]) {
        expect([host, yield* heads(url, { host })]).toEqual([host, [421, 421]])
      }
    }).pipe(Effect.provide(live({ hosts: ["ops.example.COM"] }))))

  it("is known by the address that it came to, as far as the server tells", () => {
    const isRefused = (localAddress: string | undefined, host: string | undefined) =>
      checkHost({ host, localAddress }, undefined) !== undefined
    for (const here of ["127.0.0.1", "127.0.0.6", "::1", "::ffff:127.0.0.1"]) {
      expect([isRefused(here, "evil.example"), isRefused(here, "localhost:1")]).toEqual([true, false])
      // An address is nobody's to point elsewhere.
      expect([isRefused(here, "10.0.0.5:80"), isRefused(here, "[fd00::1]"), isRefused(here, undefined)]).toEqual(
        [false, false, true]
      )
    }
    // The names of this host in a network are its operator's to give.
    for (const elsewhere of ["10.0.0.5", "fd00::1", undefined]) {
      expect([isRefused(elsewhere, "shop.internal"), isRefused(elsewhere, "localhost")]).toEqual([false, false])
    }
  })

  it.scopedLive("HT29: may link to this one, and reads none of its data", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(Dashboard.router)
      for (const [site, events] of [["cross-site", 403], ["same-site", 403], ["same-origin", 200], ["none", 200]]) {
        expect([site, yield* heads(url, { "sec-fetch-site": String(site) })]).toEqual([site, [200, events]])
      }
    }).pipe(Effect.provide(live())))

  it.scoped("hosts are names, without ports", () =>
    Effect.gen(function*() {
      for (const hosts of [[], [""], ["ops.example.com:9090"], ["http://ops.example.com"], "ops.example.com", [1]]) {
        const exit = yield* Effect.exit(
          Layer.build(Dashboard.layer({ hosts: hosts as never }).pipe(Layer.provide(ResilienceLive)))
        )
        expect(Exit.isFailure(exit) && Cause.pretty(exit.cause)).toContain("option hosts must be a list of the names")
      }
      expect(() => Admin.router({ authorize: Admin.loopbackOnly, hosts: ["a:1"] })).toThrow(/without ports/)
    }))
})

describe("the path of an admin", () => {
  const built = (admin: string, around: Layer.Layer<Admin, never, EventBus | Registry> | Layer.Layer<never>) =>
    Effect.exit(
      Layer.build(Dashboard.layer({ admin }).pipe(Layer.provide(around), Layer.provide(ResilienceLive)))
    )

  const said = (exit: Exit.Exit<unknown, unknown>) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "nothing"

  it.scoped("is one of this host, and of an admin that there is", () =>
    Effect.gen(function*() {
      for (const path of ["/admin", "../admin", "./admin/"]) {
        expect(Exit.isSuccess(yield* built(path, Admin.Live))).toBe(true)
      }
      for (const path of ["https://evil.test", "//evil.test/", "/\\evil.test", "admin", "", "/a?b", "/a#b"]) {
        expect([path, said(yield* built(path, Admin.Live))]).toEqual([
          path,
          expect.stringContaining("option admin must be a path")
        ])
      }
      expect(said(yield* built("/admin", Layer.empty))).toContain("left out where no Admin is provided")
    }))
})

describe("the events", () => {
  it.scopedLive("begin with all there is, and go on with what is new", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "db", maxConcurrent: 2 })
      yield* CircuitBreaker.make({ name: "quiet" })
      const { url } = yield* serveNode(mounted)
      const { response, text, told } = yield* openViewer(`${url}/ops/resilience/events`)
      expect(response.headers).toMatchObject({
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no"
      })
      const snapshot = yield* eventually(() => told()[0])
      expect(text()).toMatch(/^retry: 2000\n\n/)
      expect(snapshot.event).toBe("snapshot")
      expect(snapshot.data.instances.map(({ id }: { id: string }) => id)).toEqual([
        "Bulkhead/db",
        "CircuitBreaker/quiet"
      ])
      expect(snapshot.data.instances[1].settings).toMatchObject({ failureRate: 0.5 })

      yield* Effect.forkScoped(bulkhead.withPermit(Effect.never))
      const update = yield* eventually(() => told()[1])
      expect(update.event).toBe("update")
      // Time that passes for the others is no news.
      expect(update.data.changed).toMatchObject([{ id: "Bulkhead/db", metrics: { active: 1 } }])
      expect(update.id).toBe(snapshot.id?.replace(/\d+$/, (n) => String(Number(n) + 1)))

      const scope = yield* Scope.make()
      yield* Scope.extend(Bulkhead.make({ name: "gone" }), scope)
      yield* eventually(() => told().some(({ data }) => data.changed?.[0]?.id === "Bulkhead/gone"))
      yield* Scope.close(scope, Exit.void)
      yield* eventually(() => told().some(({ data }) => data.removed?.includes("Bulkhead/gone")))
    }).pipe(Effect.provide(live())))

  it.scopedLive("tell what happened, a burst as one line, and of errors the name", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments", consecutiveFailures: 2 })
      const { url } = yield* serveNode(mounted)
      const { text, told } = yield* openViewer(`${url}/ops/resilience/events`)
      yield* eventually(() => told()[0])
      yield* Effect.repeatN(Effect.exit(breaker.withBreaker(fail)), 7)
      const entries = yield* eventually(() => {
        const last = new Map(told().flatMap(({ data }) => data.timeline).map((entry) => [entry.n, entry]))
        return [...last.values()].some(({ count }) => count === 6) && [...last.values()]
      })
      expect(entries).toMatchObject([
        { tag: "StateChanged", warning: true, detail: { from: "Closed", to: "Open" } },
        { tag: "CallRejected", count: 6, detail: { reason: "Open" } }
      ])
      const card = told().flatMap(({ data }) => data.changed ?? []).at(-1)
      expect(card.recent).toMatchObject({ calls: "ffrrrrrr", lastError: "DownError" })
      expect(text()).not.toContain("hunter2")
    }).pipe(Effect.provide(live())))

  it.scopedLive("tell the status of an answer that was retried in vain, or counted as a failure", () =>
    Effect.gen(function*() {
      const client = yield* resilient({ name: "upstream", retry: { ...quick, maxAttempts: 2 } })
      const down = yield* serveNode(HttpServerResponse.empty({ status: 503 }))
      const { url } = yield* serveNode(mounted)
      const { told } = yield* openViewer(`${url}/ops/resilience/events`)
      yield* eventually(() => told()[0])
      yield* Effect.exit(client.get(down.url))
      const line = yield* eventually(() =>
        told().flatMap(({ data }) => data.timeline).find(({ tag }) => tag === "RetryExhausted")
      )
      expect(line).toMatchObject({ detail: { attempts: 2, error: "status 503" } })
      yield* eventually(() =>
        told().flatMap(({ data }) => data.changed ?? []).some(({ id, recent }) =>
          id === "CircuitBreaker/upstream" && recent.lastError === "status 503"
        )
      )
    }).pipe(Effect.provide(ResilientHttpClient.Live), Effect.provide(Layer.merge(live(), NodeHttpClient.layer))))

  it.scopedLive("tell why a helper failed, by a word of ours and no other, and that a connection is up again", () =>
    Effect.gen(function*() {
      const state = yield* Ref.make("up")
      const registry = yield* Registry
      yield* registry.register({
        pattern: "RedisConnection",
        instance: "redis",
        site: "here",
        snapshot: Effect.map(Ref.get(state), (state) => state === "up" ? { state } : { state, downFor: 5000 }),
        actions: {}
      })
      const { emitter } = yield* openInstance("IdempotencyStore", "redis")
      const { url } = yield* serveNode(mounted)
      const { text, told } = yield* openViewer(`${url}/ops/resilience/events`)
      yield* eventually(() => told()[0])
      const lines = () => told().flatMap(({ data }) => data.timeline)
      const own = new IdempotencyStoreError({ operation: "begin", reason: "Unavailable", detail: "hunter2" })
      const others = Object.assign(new Error("hunter2"), { _tag: "LoginError", reason: "Hunter" })
      const sent = (error: unknown) => Schema.decodeSync(Schema.Defect)(Schema.encodeSync(Schema.Defect)(error))
      const remote = sent(new IdempotencyStoreError({ operation: "begin", reason: "Timeout", detail: "hunter2" }))
      for (const error of [own, others, remote, sent(others)]) yield* emitter.internalError("Store", error)
      yield* eventually(() => lines().length === 4)
      expect(lines().map(({ detail }) => detail.error)).toEqual([
        "IdempotencyStoreError (Unavailable)",
        "LoginError",
        "IdempotencyStoreError (Timeout)",
        "Error"
      ])
      expect(text()).not.toMatch(/hunter/i)

      yield* Ref.set(state, "down")
      yield* eventually(() => told().some(({ data }) => data.changed?.[0]?.metrics.state === "down"))
      yield* Ref.set(state, "up")
      const back = yield* eventually(() => lines()[4])
      expect(back).toMatchObject({
        tag: "StateChanged",
        pattern: "RedisConnection",
        instance: "redis",
        warning: false,
        detail: { from: "down", to: "up" }
      })
      expect(back.detail.lasted).toBeGreaterThanOrEqual(5000)
    }).pipe(Effect.provide(live())))

  it.scopedLive("tell whom a shedder turned away: a line for each priority", () =>
    Effect.gen(function*() {
      const shedder = yield* LoadShedder.make({ name: "api", maxInFlight: 1, maxQueueDepth: 0 })
      const { url } = yield* serveNode(mounted)
      const { told } = yield* openViewer(`${url}/ops/resilience/events`)
      yield* eventually(() => told()[0])
      yield* Effect.forkScoped(shedder.withShedding(Effect.never))
      yield* Effect.yieldNow()
      for (const level of ["low", "normal", "low"] as const) {
        yield* Effect.exit(shedder.withShedding(Effect.void)).pipe(Priority.within(level))
      }
      const lines = yield* eventually(() => {
        const last = new Map(told().flatMap(({ data }) => data.timeline).map((entry) => [entry.n, entry]))
        const shed = [...last.values()].filter(({ tag }) => tag === "Shed")
        return shed.reduce((sum, { count }) => sum + count, 0) === 3 && shed
      })
      expect(lines).toMatchObject([
        { count: 2, detail: { priority: "low" } },
        { count: 1, detail: { priority: "normal" } }
      ])
    }).pipe(Effect.provide(live())))

  it.scopedLive("go on where a page left off, or begin anew", () =>
    Effect.gen(function*() {
      const bulkhead = yield* Bulkhead.make({ name: "db" })
      const { url } = yield* serveNode(mounted)
      const first = yield* openViewer(`${url}/ops/resilience/events`)
      const snapshot = yield* eventually(() => first.told()[0])
      yield* Effect.forkScoped(bulkhead.withPermit(Effect.never))
      yield* eventually(() => first.told()[1])
      const again = (id: string) => openViewer(`${url}/ops/resilience/events`, { "last-event-id": id })
      const back = yield* again(String(snapshot.id))
      expect((yield* eventually(() => back.told()[0])).event).toBe("update")
      const stranger = yield* again("another-process-1")
      expect((yield* eventually(() => stranger.told()[0])).event).toBe("snapshot")
      const ahead = yield* again(String(snapshot.id?.replace(/\d+$/, "999")))
      expect((yield* eventually(() => ahead.told()[0])).event).toBe("snapshot")
    }).pipe(Effect.provide(live())))

  it.scopedLive("say how many instances are not registered, and how to wire them", () =>
    Effect.gen(function*() {
      // As where a layer stands beside `ResilienceLive`, and not before it.
      const stray = Bulkhead.make({ name: "stray" })
      yield* Effect.mapInputContext(
        stray,
        (context: Context.Context<Scope.Scope>) => Context.pick(Scope.Scope)(context)
      )
      const { url } = yield* serveNode(mounted)
      const { told } = yield* openViewer(`${url}/ops/resilience/events`)
      const { data } = yield* eventually(() => told()[0])
      expect(data.notes).toMatchObject({ unregistered: 1, hint: expect.stringContaining("ResilienceLive") })
    }).pipe(Effect.provide(live())))

  it.scopedLive("are for so many viewers at once, and a place is free when its viewer is gone", () =>
    Effect.gen(function*() {
      const { viewers } = yield* Dashboard
      const { url } = yield* serveNode(mounted)
      const events = `${url}/ops/resilience/events`
      const open = yield* Effect.all(Array.from({ length: 16 }, () => openViewer(events)))
      const refused = yield* get(events)
      expect([refused?.status, refused?.headers["retry-after"]]).toEqual([503, "10"])
      // Asking for the head takes no place.
      expect((yield* get(events, { method: "HEAD" }))?.status).toBe(200)
      expect(yield* viewers).toBe(16)
      open[3]?.request.destroy()
      yield* Effect.repeat(viewers, { until: (n) => n === 15, schedule: Schedule.spaced("5 millis") })
      const next = yield* openViewer(events)
      yield* eventually(() => next.told()[0]?.event === "snapshot")
    }).pipe(Effect.provide(live())))

  it.live("end with the server", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { ended, told } = yield* Effect.gen(function*() {
        const { url } = yield* Scope.extend(serveNode(mounted), scope)
        const viewer = yield* openViewer(`${url}/ops/resilience/events`)
        yield* eventually(() => viewer.told()[0])
        yield* Effect.timeout(Scope.close(scope, Exit.void), "5 seconds")
        yield* eventually(viewer.ended)
        return viewer
      }).pipe(Effect.scoped, Effect.provide(live()))
      expect([ended(), told().length]).toEqual([true, 1])
    }))
})

describe("without a viewer", () => {
  it.effect("nothing is sampled and nobody listens, some seconds after the last one left", () =>
    Effect.gen(function*() {
      const { open, samples, viewers } = yield* Dashboard
      const listeners = EventBus.subscribers
      expect([yield* samples, yield* listeners]).toEqual([0, 0])
      yield* TestClock.adjust("1 minute")
      expect(yield* samples).toBe(0)

      const scope = yield* Scope.make()
      yield* Scope.extend(open(undefined, stays), scope)
      expect([yield* samples, yield* viewers, yield* listeners]).toEqual([1, 1, 1])
      yield* TestClock.adjust("1 second")
      expect(yield* samples).toBe(11)
      yield* Scope.close(scope, Exit.void)
      expect(yield* viewers).toBe(0)
      yield* TestClock.adjust("10 seconds")
      const then = yield* samples
      yield* TestClock.adjust("1 minute")
      expect([yield* samples, yield* listeners]).toEqual([then, 0])
    }).pipe(Effect.provide(live())))

  it.effect("the timeline is kept where it is asked for", () =>
    Effect.gen(function*() {
      const { open, samples } = yield* Dashboard
      const breaker = yield* CircuitBreaker.make({ name: "payments", consecutiveFailures: 1 })
      yield* Effect.exit(breaker.withBreaker(fail))
      yield* TestClock.adjust("1 minute")
      expect(yield* samples).toBe(0)
      const text = yield* Effect.scoped(Effect.flatMap(
        open(undefined, stays),
        Option.match({ onNone: () => Effect.succeed(""), onSome: (_) => Stream.mkString(Stream.take(_, 2)) })
      ))
      expect(parseEvents(text)[0]?.data.timeline).toMatchObject([{ tag: "StateChanged" }])
    }).pipe(Effect.scoped, Effect.provide(live({ history: true }))))
})

describe("a viewer", () => {
  const first = (stream: Stream.Stream<string>, n: number) =>
    Effect.map(Stream.mkString(Stream.take(stream, n)), parseEvents)
  const attend = Effect.flatMap(
    Dashboard,
    ({ open }) => Effect.flatMap(open(undefined, stays), (_) => Effect.orDie(_))
  )

  it.effect("hears a beat after 15 seconds of silence", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.flatMap(attend, (stream) => first(stream, 3)))
      yield* TestClock.adjust("14 seconds")
      expect(Option.isNone(yield* fiber.poll)).toBe(true)
      yield* TestClock.adjust("1 second")
      expect((yield* fiber).map(({ event }) => event)).toEqual(["snapshot", "beat"])
    }).pipe(Effect.scoped, Effect.provide(live())))

  it.effect("that comes later is told the times as they stand", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({
        name: "payments",
        consecutiveFailures: 1,
        openDuration: "5 minutes"
      })
      yield* Effect.exit(breaker.withBreaker(fail))
      const early = yield* attend
      const times = (stream: Stream.Stream<string>) =>
        Effect.map(first(stream, 2), ([told]) => {
          const { openFor, sinceStateChange } = told?.data.instances[0].metrics
          return [sinceStateChange, openFor]
        })
      expect(yield* times(early)).toEqual([0, 300_000])
      yield* TestClock.adjust("1 minute")
      expect(yield* times(yield* attend)).toEqual([60_000, 240_000])
    }).pipe(Effect.scoped, Effect.provide(live())))

  it.effect("hears of a circuit that is forced open for longer", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments" })
      yield* breaker.forceOpen("1 minute")
      const pull = yield* Stream.toPull(yield* attend)
      yield* pull // retry
      yield* pull // snapshot
      yield* TestClock.adjust("10 seconds")
      yield* breaker.forceOpen("5 minutes")
      yield* TestClock.adjust("1 second")
      const [told, ...more] = parseEvents([...(yield* pull)].join(""))
      expect(told?.data.timeline).toEqual([])
      expect(told?.data.changed).toMatchObject([{ metrics: { openFor: 299_900 } }])
      expect(more).toEqual([])
    }).pipe(Effect.scoped, Effect.provide(live())))

  const gc: () => void = (() => {
    setFlagsFromString("--expose-gc")
    return runInNewContext("gc")
  })()
  const heap = () => {
    gc()
    return process.memoryUsage().heapUsed
  }

  it.effect(
    "HT23: that does not read costs a bounded memory, and is told the whole when it reads again",
    () =>
      Effect.gen(function*() {
        const size = 200_000
        let turn = 0
        yield* Effect.flatMap(Registry, (registry) =>
          registry.register({
            pattern: "Large",
            instance: "one",
            site: "",
            actions: {},
            snapshot: Effect.sync(() => ({ turn: ++turn, text: String(turn).repeat(size).slice(0, size) }))
          }))
        const stream = yield* attend
        const pull = yield* Stream.toPull(stream)
        yield* pull // retry
        yield* pull // snapshot
        const before = heap()
        yield* Effect.repeatN(TestClock.adjust("100 millis"), 199)
        const growth = heap() - before
        expect(turn).toBeGreaterThan(200)
        // 200 frames are 40 MB; kept are those of the queue, and those for who comes back.
        expect(growth).toBeLessThan(20e6)

        const next = pull.pipe(
          Effect.map((texts) => parseEvents([...texts].join(""))),
          Effect.repeat({ until: (told) => told.length > 0 })
        )
        const told = yield* next
        expect(told[0]?.event).toBe("snapshot")
        expect(told[0]?.data.instances[0].metrics.turn).toBe(turn)
        // What the queue still held is older than that, and is left out.
        yield* TestClock.adjust("100 millis")
        expect((yield* next)[0]).toMatchObject({ event: "update", data: { changed: [{ metrics: { turn } }] } })
      }).pipe(Effect.scoped, Effect.provide(live())),
    60_000
  )

  it.scopedLive("that does not read holds up nobody else", () =>
    Effect.gen(function*() {
      let turn = 0
      yield* Effect.flatMap(Registry, (registry) =>
        registry.register({
          pattern: "Large",
          instance: "one",
          site: "",
          actions: {},
          snapshot: Effect.sync(() => ({ turn: ++turn, text: "x".repeat(500_000) }))
        }))
      const { url } = yield* serveNode(mounted)
      const events = `${url}/ops/resilience/events`
      const slow = yield* openViewer(events)
      slow.response.pause()
      const quick = yield* openViewer(events)
      yield* eventually(() => quick.told().length > 25)
      slow.response.resume()
      const turns = yield* eventually(() => {
        const told = slow.told().map(({ data, event }) =>
          (event === "snapshot" ? data.instances : data.changed)[0].metrics.turn
        )
        return told.at(-1) >= 30 && told
      })
      expect(turns).toEqual([...turns].sort((a, b) => a - b))
    }).pipe(Effect.provide(live())))

  /** Interrupts it at each of its operations, and counts how often a place was lost. */
  const lostPlaces = <A>(look: Effect.Effect<A, never, Dashboard | Scope.Scope>, close: boolean) =>
    Effect.gen(function*() {
      const { viewers } = yield* Dashboard
      let lost = 0
      for (let phase = 0; phase <= 16; phase++) {
        for (let steps = 0; steps <= 12; steps++) {
          const scope = yield* Scope.make()
          const before = Effect.repeatN(Effect.void, phase)
          const victim = yield* Effect.zipRight(before, Effect.zipRight(Scope.extend(look, scope), Effect.never)).pipe(
            Effect.withMaxOpsBeforeYield(16),
            Effect.fork
          )
          yield* Effect.repeatN(Effect.yieldNow(), steps)
          yield* Fiber.interrupt(victim)
          if (close) yield* Scope.close(scope, Exit.void)
          if ((yield* viewers) !== 0) lost++
        }
      }
      return lost
    }).pipe(Effect.provide(live({ maxViewers: 1000 })))
  const look = Effect.flatMap(Dashboard, ({ open }) => open(undefined, stays))

  it.live("that is interrupted anywhere on its way in leaves its place", () =>
    Effect.gen(function*() {
      expect(yield* lostPlaces(look, true)).toBe(0)
      // Control: where the scope stays open, so do the places.
      expect(yield* lostPlaces(look, false)).toBeGreaterThan(10)
    }), 60_000)
})
