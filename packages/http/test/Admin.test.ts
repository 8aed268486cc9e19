import {
  AdaptiveConcurrency,
  Bulkhead,
  CircuitBreaker,
  EventBus,
  Limit,
  type OperatorAction,
  RateLimiter,
  Registry,
  ResilienceLive,
  SharedCircuits
} from "@effect-resilience/core"
import { Admin, ClientIp, ForbiddenError } from "@effect-resilience/http"
import { HttpLayerRouter, HttpRouter } from "@effect/platform"
import { NodeHttpServer } from "@effect/platform-node"
import { describe, expect, it } from "@effect/vitest"
import {
  Cause,
  Chunk,
  Context,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Queue,
  Redacted,
  Scope,
  TestClock
} from "effect"
import * as http from "node:http"
import { parseShownRate } from "../src/internal/admin/plan.js"
import { fetchNode, serveNode } from "./utils/servers.js"

const live = (options?: Admin.LayerOptions) =>
  Admin.layer(options).pipe(
    Layer.provideMerge(ResilienceLive),
    Layer.provideMerge(Logger.remove(Logger.defaultLogger))
  )

const alice = { name: "alice" }
const resize = (instance: string, input: unknown, ttl: Admin.Act["ttl"] = "1 minute"): Admin.Act => ({
  pattern: "Bulkhead",
  instance,
  action: "resize",
  input,
  reason: "a test",
  ttl
})

const metricsOf = (pattern: string, instance: string) =>
  Effect.flatMap(Registry, (registry) => Effect.flatMap(registry.get(pattern, instance), ({ snapshot }) => snapshot))
const limitOf = (pattern: string, instance: string) =>
  Effect.map(metricsOf(pattern, instance), (metrics) => Reflect.get(metrics, "limit"))

describe("an override", () => {
  it.scoped("ends by itself, and is told of on the bus", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      const audit = yield* EventBus.subscribe
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      const { override, previous } = yield* apply(resize("db", 3), alice)
      expect(previous).toMatchObject({ limit: 10 })
      expect(override).toMatchObject({ setting: "limit", actor: "alice", reason: "a test", since: 0, until: 60_000 })
      expect(yield* limitOf("Bulkhead", "db")).toBe(3)
      yield* TestClock.adjust("59 seconds")
      expect([yield* limitOf("Bulkhead", "db"), (yield* overrides).length]).toEqual([3, 1])
      yield* TestClock.adjust("1 second")
      expect([yield* limitOf("Bulkhead", "db"), (yield* overrides).length]).toEqual([10, 0])
      const told = Chunk.toReadonlyArray(yield* Queue.takeAll(audit)).filter(({ _tag }) => _tag === "OperatorAction")
      expect(told).toMatchObject(
        [
          { actor: "alice", action: "resize", input: "3", phase: "Applied", until: 60_000, timestamp: 0 },
          { actor: "automatic", action: "resize", input: "10", phase: "Returned", timestamp: 60_000 }
        ] satisfies Array<Partial<OperatorAction>>
      )
    }).pipe(Effect.provide(live())))

  it.scoped("lasts ten minutes where nothing is said", () =>
    Effect.gen(function*() {
      const { apply } = yield* Admin
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      const { override } = yield* apply({ ...resize("db", 3), ttl: undefined }, alice)
      expect(override?.until).toBe(600_000)
    }).pipe(Effect.provide(live())))

  it.scoped("lasts no longer than it may, whoever asks for it", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      for (const ttl of ["5 hours", Infinity, "0 seconds", -1, 999, "soon" as never] as const) {
        const error = yield* Effect.flip(apply(resize("db", 3, ttl), alice))
        expect(error.message).toBe(
          "Bulkhead \"db\": action resize: ttl must be a duration from 1000 to 3600000 ms, but is " +
            (typeof ttl === "string" ? JSON.stringify(ttl) : ttl)
        )
      }
      expect([yield* limitOf("Bulkhead", "db"), yield* overrides]).toEqual([10, []])
      expect((yield* apply(resize("db", 3, "1 hour"), alice)).override?.until).toBe(3_600_000)
    }).pipe(Effect.provide(live())))

  it.scoped("lasts as long as it may where that is less than the default", () =>
    Effect.gen(function*() {
      const { apply } = yield* Admin
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      expect((yield* apply({ ...resize("db", 3), ttl: undefined }, alice)).override?.until).toBe(300_000)
    }).pipe(Effect.provide(live({ maxTtl: "5 minutes" }))))

  it.scoped("after another returns to what was before both", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      yield* apply(resize("db", 3), alice)
      yield* TestClock.adjust("50 seconds")
      yield* apply(resize("db", 5), alice)
      // The end of the first is not the end of the second.
      yield* TestClock.adjust("15 seconds")
      expect([yield* limitOf("Bulkhead", "db"), (yield* overrides).length]).toEqual([5, 1])
      yield* TestClock.adjust("45 seconds")
      expect(yield* limitOf("Bulkhead", "db")).toBe(10)
    }).pipe(Effect.provide(live())))

  it.scoped("can be ended before its time", () =>
    Effect.gen(function*() {
      const { apply, giveBack, overrides } = yield* Admin
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      yield* apply(resize("db", 3), alice)
      const which = { pattern: "Bulkhead", instance: "db", setting: "limit", reason: "all is well" }
      expect(yield* giveBack(which, alice)).toBe("process")
      expect([yield* limitOf("Bulkhead", "db"), (yield* overrides).length]).toEqual([10, 0])
      expect(yield* giveBack(which, alice)).toBeUndefined()
      // What is set afterwards is left alone by the timer.
      yield* Registry.act("Bulkhead", "db", "resize", 7)
      yield* TestClock.adjust("2 minutes")
      expect(yield* limitOf("Bulkhead", "db")).toBe(7)
    }).pipe(Effect.provide(live())))

  it.scoped("is put back when the admin ends", () =>
    Effect.gen(function*() {
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Layer.fresh(Admin.Live), scope)
      yield* Context.get(context, Admin).apply(resize("db", 3), alice)
      expect(yield* limitOf("Bulkhead", "db")).toBe(3)
      yield* Scope.close(scope, Exit.void)
      expect(yield* limitOf("Bulkhead", "db")).toBe(10)
    }).pipe(Effect.provide(ResilienceLive), Effect.provide(Logger.remove(Logger.defaultLogger))))

  it.scoped("of an instance that has gone is gone with it", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      const scope = yield* Scope.make()
      yield* Scope.extend(Bulkhead.make({ name: "db" }), scope)
      yield* apply(resize("db", 3), alice)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("1 minute")
      expect(yield* overrides).toEqual([])
    }).pipe(Effect.provide(live())))

  it.scoped("of an instance that has gone leaves its successor of the same name alone", () =>
    Effect.gen(function*() {
      const { apply, giveBack, overrides } = yield* Admin
      const which = { pattern: "Bulkhead", instance: "db", setting: "limit", reason: "all is well" }
      const first = yield* Scope.make()
      yield* Scope.extend(Bulkhead.make({ name: "db", maxConcurrent: 10 }), first)
      yield* apply(resize("db", 3), alice)
      yield* Scope.close(first, Exit.void)
      const second = yield* Scope.make()
      yield* Scope.extend(Bulkhead.make({ name: "db", maxConcurrent: 50 }), second)
      expect([yield* overrides, yield* giveBack(which, alice)]).toEqual([[], undefined])
      expect(yield* limitOf("Bulkhead", "db")).toBe(50)
      // The end of the first override, which nobody ended before its time.
      yield* apply(resize("db", 5), alice)
      yield* Scope.close(second, Exit.void)
      yield* Bulkhead.make({ name: "db", maxConcurrent: 60 })
      yield* TestClock.adjust("30 seconds")
      // An override of the successor returns to what the successor had.
      yield* apply(resize("db", 7), alice)
      yield* TestClock.adjust("30 seconds")
      expect(yield* limitOf("Bulkhead", "db")).toBe(7)
      yield* TestClock.adjust("30 seconds")
      expect([yield* limitOf("Bulkhead", "db"), yield* overrides]).toEqual([60, []])
    }).pipe(Effect.provide(live())))

  it.scoped("of a name that is there twice returns each to what it was", () =>
    Effect.gen(function*() {
      const { apply } = yield* Admin
      const limits = Effect.flatMap(Registry.snapshot, ({ instances }) =>
        Effect.succeed(
          instances.filter(({ instance }) => instance === "db").map(({ metrics }) => Reflect.get(metrics, "limit"))
        ))
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      yield* Bulkhead.make({ name: "db", maxConcurrent: 20 })
      yield* apply(resize("db", 3), alice)
      yield* apply(resize("db", 4), alice)
      expect(yield* limits).toEqual([4, 4])
      yield* TestClock.adjust("1 minute")
      expect(yield* limits).toEqual([10, 20])
    }).pipe(Effect.provide(live())))

  for (const action of ["forceOpen", "disable", "metricsOnly"]) {
    for (const before of ["reset", "disable", "metricsOnly"]) {
      it.scoped(`${action} of a circuit after ${before} is undone`, () =>
        Effect.gen(function*() {
          const { apply } = yield* Admin
          const breaker = yield* CircuitBreaker.make({ name: "payments" })
          yield* Registry.act("CircuitBreaker", "payments", before)
          const state = yield* breaker.state
          yield* apply({ pattern: "CircuitBreaker", instance: "payments", action, reason: "a test" }, alice)
          expect(yield* breaker.state).toBe(
            { forceOpen: "ForcedOpen", disable: "Disabled", metricsOnly: "MetricsOnly" }[action]
          )
          yield* TestClock.adjust("10 minutes")
          expect(yield* breaker.state).toBe(state)
        }).pipe(Effect.provide(live())))
    }
  }

  const circuit = (action: string, ttl: Duration.DurationInput) => ({
    pattern: "CircuitBreaker",
    instance: "payments",
    action,
    reason: "a test",
    ttl
  })

  it.scoped("RC23: of a circuit is over when somebody else acts on it, and puts nothing back then", () =>
    Effect.gen(function*() {
      const { apply, giveBack, overrides } = yield* Admin
      const breaker = yield* CircuitBreaker.make({ name: "payments" })
      const which = { pattern: "CircuitBreaker", instance: "payments", setting: "state", reason: "a test" }
      for (const act of [breaker.forceOpen("1 hour"), breaker.metricsOnly, breaker.reset]) {
        yield* apply(circuit("forceOpen", "1 minute"), alice)
        yield* act
        const state = yield* breaker.state
        expect([yield* overrides, yield* giveBack(which, alice)]).toEqual([[], undefined])
        yield* TestClock.adjust("2 minutes")
        expect(yield* breaker.state).toBe(state)
      }
      // What it returns to is what it found, not what was before that which is over.
      yield* apply(circuit("disable", "1 minute"), alice)
      yield* breaker.metricsOnly
      yield* apply(circuit("forceOpen", "1 minute"), alice)
      yield* TestClock.adjust("1 minute")
      expect(yield* breaker.state).toBe("MetricsOnly")
    }).pipe(Effect.provide(live())))

  it.scoped("RC23: of a circuit gives what was to last for a while before it what is left of its time", () =>
    Effect.gen(function*() {
      const { apply } = yield* Admin
      const breaker = yield* CircuitBreaker.make({ name: "payments" })
      const left = Effect.map(breaker.snapshot, ({ left }) => left)
      yield* breaker.forceOpen("10 minutes")
      yield* apply(circuit("disable", "1 minute"), alice)
      yield* TestClock.adjust("1 minute")
      expect([yield* breaker.state, yield* left]).toEqual(["ForcedOpen", Duration.minutes(9)])
      yield* apply(circuit("disable", "9 minutes"), alice)
      yield* TestClock.adjust("9 minutes")
      expect(yield* breaker.state).toBe("Closed")
    }).pipe(Effect.provide(live())))

  it.scoped("RC27: that ends before its ttl is over then, and does nothing at its ttl", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      const breaker = yield* CircuitBreaker.make({ name: "payments", openDuration: "1 hour" })
      const order = { ...circuit("forceOpen", "10 minutes"), input: "10 seconds" }
      expect((yield* apply(order, alice)).override?.until).toBe(10_000)
      yield* TestClock.adjust("10 seconds")
      expect([yield* breaker.state, yield* overrides]).toEqual(["Closed", []])
      yield* Effect.repeatN(Effect.exit(breaker.withBreaker(Effect.fail("down"))), 4)
      expect(yield* breaker.state).toBe("Open")
      yield* TestClock.adjust("10 minutes")
      expect(yield* breaker.state).toBe("Open")
      // What was there for good comes back when it ends.
      yield* breaker.disable
      yield* apply(order, alice)
      yield* TestClock.adjust("10 seconds")
      expect([yield* breaker.state, yield* overrides]).toEqual(["Disabled", []])
    }).pipe(Effect.provide(live())))

  it.scoped("RC28: that the fleet refused, for another acted first, is none, and is answered and told of as refused", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      const audit = yield* EventBus.subscribe
      let acted = 0
      const fleet: SharedCircuits.Service = {
        join: (circuit) => ({
          changed: () => {},
          failed: () => {},
          lease: () => () => {},
          // Another operator disabled it, and this process had not heard of that.
          command: () =>
            Effect.suspend(() => {
              acted++
              const view = { state: "Disabled", epoch: acted, left: Infinity, opens: 0, operator: true, acted } as const
              return Effect.as(circuit.follow({ ...view, followed: true }), false)
            }),
          metrics: () => ({ state: "Disabled", epoch: acted, age: Duration.zero, dropped: 0, followed: true }),
          leave: () => {}
        })
      }
      const breaker = yield* Effect.provideService(CircuitBreaker.make({ name: "payments" }), SharedCircuits, fleet)
      for (const action of ["forceOpen", "reset"]) {
        const error = yield* Effect.flip(apply(circuit(action, "1 minute"), alice))
        expect(error.message).toBe(
          `CircuitBreaker "payments": action ${action}: another operator acted first, which stands: it was not taken`
        )
      }
      expect([yield* breaker.state, yield* overrides]).toEqual(["Disabled", []])
      yield* Effect.repeatN(Effect.yieldNow(), 5)
      const told = Chunk.toReadonlyArray(yield* Queue.takeAll(audit)).filter(({ _tag }) => _tag === "OperatorAction")
      expect(told).toMatchObject([{ action: "forceOpen", phase: "Refused" }, { action: "reset", phase: "Refused" }])
      expect(told.map((event) => "until" in event && event.until)).toEqual([undefined, undefined])
    }).pipe(Effect.provide(live())))

  it.scoped("RC23: of a circuit is not what code of this process did while the order was told of", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments" })
      // It acts with the line of the log that says that the order was applied.
      const meddler = Logger.make<unknown, void>(({ message }) => {
        if (String(message).includes("forceOpen, applied")) Effect.runSync(breaker.disable)
      })
      const { apply, overrides } = yield* Admin
      yield* Effect.provide(apply(circuit("forceOpen", "1 minute"), alice), Logger.add(meddler))
      expect([yield* breaker.state, yield* overrides]).toEqual(["Disabled", []])
      yield* TestClock.adjust("1 minute")
      expect(yield* breaker.state).toBe("Disabled")
    }).pipe(Effect.provide(live())))

  it.scoped("of one key's circuit is undone, and a reset ends it", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", {}) {}
      const stateOf = (key: string) =>
        Effect.map(metricsOf("CircuitBreaker", "hosts"), (metrics) =>
          (Reflect.get(metrics, "open") as ReadonlyArray<{ key: string; state: string }>).find((one) =>
            one.key === key
          )?.state)
      yield* Effect.gen(function*() {
        yield* Effect.forEach(["a", "b"], (key) =>
          Hosts.withBreakerBy({ key })(Effect.void))
        const force = (key: string) =>
          apply(
            { pattern: "CircuitBreaker", instance: "hosts", action: "forceOpen", input: key, reason: "a test" },
            alice
          )
        yield* force("a")
        yield* force("b")
        expect([yield* stateOf("a"), yield* stateOf("b")]).toEqual(["ForcedOpen", "ForcedOpen"])
        yield* apply(
          { pattern: "CircuitBreaker", instance: "hosts", action: "reset", input: "a", reason: "a test" },
          alice
        )
        expect((yield* overrides).map(({ setting }) => setting)).toEqual([`state of "b"`])
        yield* TestClock.adjust("10 minutes")
        expect([yield* stateOf("a"), yield* stateOf("b")]).toEqual([undefined, undefined])
      }).pipe(Effect.provide(Hosts.Live))
    }).pipe(Effect.provide(live())))

  it.scoped("of a rate and of an adaptive limit is undone", () =>
    Effect.gen(function*() {
      const { apply } = yield* Admin
      const rates = [{ limit: 100, window: "90 seconds", burst: 20 }, "5/s", {
        limit: 2,
        window: "1500 micros"
      }] as const
      yield* RateLimiter.make({ name: "api", rate: [...rates] })
      yield* AdaptiveConcurrency.make({ name: "api", algorithm: Limit.aimd({ initialLimit: 12 }) })
      const rateOf = Effect.map(metricsOf("RateLimiter", "api"), (metrics) => Reflect.get(metrics, "rate"))
      const before = [yield* rateOf, yield* limitOf("AdaptiveConcurrency", "api")]
      yield* apply(
        { pattern: "RateLimiter", instance: "api", action: "setRate", input: "1/s", reason: "a test" },
        alice
      )
      yield* apply(
        { pattern: "AdaptiveConcurrency", instance: "api", action: "setLimit", input: 2, reason: "a test" },
        alice
      )
      expect([yield* rateOf, yield* limitOf("AdaptiveConcurrency", "api")]).toEqual(["1/1s", 2])
      yield* TestClock.adjust("10 minutes")
      expect([yield* rateOf, yield* limitOf("AdaptiveConcurrency", "api")]).toEqual(before)
    }).pipe(Effect.provide(live())))

  it("reads a rate as it is shown", () => {
    expect(parseShownRate("100/1m 30s (burst 20), 5/500ms")).toEqual([
      { limit: 100, window: 90_000, burst: 20 },
      { limit: 5, window: 500 }
    ])
    expect(parseShownRate("3/1ms 500000ns (burst 4), 1/500000ns")).toEqual([
      { limit: 3, window: 1.5, burst: 4 },
      { limit: 1, window: 0.5 }
    ])
  })

  it.scoped("that an instance refuses changes nothing", () =>
    Effect.gen(function*() {
      const { apply, overrides } = yield* Admin
      const audit = yield* EventBus.subscribe
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      expect((yield* Effect.flip(apply(resize("db", "three"), alice))).message).toContain("\"three\"")
      expect((yield* Effect.flip(apply(resize("dc", 3), alice))).message).toContain("there are: db")
      expect([yield* limitOf("Bulkhead", "db"), yield* overrides]).toEqual([10, []])
      yield* Effect.repeatN(Effect.yieldNow(), 5)
      expect(Chunk.toReadonlyArray(yield* Queue.takeAll(audit))).toMatchObject([{ phase: "Refused", actor: "alice" }])
    }).pipe(Effect.provide(live())))

  it.live("that is interrupted anywhere is either there with its end, or is not", () =>
    Effect.gen(function*() {
      const { apply, giveBack, overrides } = yield* Admin
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      let applied = 0
      let runs = 0
      for (let phase = 0; phase <= 16; phase++) {
        for (let steps = 0; steps <= 12; steps++) {
          const victim = yield* Effect.zipRight(Effect.repeatN(Effect.void, phase), apply(resize("db", 3), alice)).pipe(
            Effect.withMaxOpsBeforeYield(16),
            Effect.fork
          )
          yield* Effect.repeatN(Effect.yieldNow(), steps)
          yield* Fiber.interrupt(victim)
          const held = (yield* overrides).length
          expect(yield* limitOf("Bulkhead", "db")).toBe(held === 1 ? 3 : 10)
          applied += held
          runs++
          const which = { pattern: "Bulkhead", instance: "db", setting: "limit", reason: "next" }
          // The lock is free, whatever happened.
          expect(yield* Effect.timeout(giveBack(which, alice), "1 second")).toBe(held === 1 ? "process" : undefined)
        }
      }
      expect(applied).toBeGreaterThan(0)
      expect(applied).toBeLessThan(runs)
    }).pipe(Effect.scoped, Effect.provide(live())))
})

const token = "0123456789abcdef"
const order = { pattern: "Bulkhead", instance: "db", action: "resize", input: 3, reason: "a test", ttlSeconds: 60 }
const sent = { "content-type": "application/json", "x-resilience-admin": "1", authorization: `Bearer ${token}` }

/** A served admin, and a request to it. */
const serve = (options: Partial<Admin.Options<never>> = {}) =>
  Effect.gen(function*() {
    yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
    const router = Admin.router({ authorize: Admin.bearer(Redacted.make(token)), ...options })
    const { port, url } = yield* serveNode(HttpRouter.mount(HttpRouter.empty, "/admin", router))
    const post = (headers: Record<string, string>, body: unknown = order, path = "actions") =>
      Effect.map(
        Effect.promise(() =>
          fetchNode(`${url}/admin/${path}`, {
            method: "POST",
            headers,
            body: typeof body === "string" ? body : JSON.stringify(body)
          })
        ),
        (answer) => ({ ...answer, json: answer?.body === "" ? undefined : JSON.parse(answer?.body ?? "null") })
      )
    const get = (headers: Record<string, string>) => Effect.promise(() => fetchNode(`${url}/admin/state`, { headers }))
    return { get, port, post, url, limit: limitOf("Bulkhead", "db") }
  })

describe("over HTTP", () => {
  it.scopedLive("acts, tells what was before, and shows it", () =>
    Effect.gen(function*() {
      const { get, limit, post } = yield* serve()
      const acted = yield* post(sent)
      expect([acted.status, acted.headers?.["cache-control"]]).toEqual([200, "no-store"])
      expect(acted.json).toMatchObject({
        scope: "this process only",
        previous: { limit: 10 },
        override: { setting: "limit", actor: "bearer of the token", until: expect.stringMatching(/^\d{4}-.*Z$/) }
      })
      expect(yield* limit).toBe(3)
      const state = JSON.parse((yield* get(sent))?.body ?? "")
      expect(state.overrides).toMatchObject([{ instance: "db", action: "resize", reason: "a test" }])
      expect(state.instances).toContainEqual(expect.objectContaining({ pattern: "Bulkhead", actions: ["resize"] }))
      const back = { pattern: "Bulkhead", instance: "db", setting: "limit", reason: "done" }
      expect((yield* post(sent, back, "returns")).status).toBe(200)
      expect(yield* limit).toBe(10)
      expect((yield* post(sent, back, "returns")).status).toBe(404)
    }).pipe(Effect.provide(live())))

  it.scopedLive("says whom it reached, and how long it lasts to those who keep it for all processes", () =>
    Effect.gen(function*() {
      const { get, post } = yield* serve()
      const told: Array<unknown> = []
      const resize: Registry.Action = (limit, lasts) =>
        Effect.sync(() => {
          told.push([limit, lasts && Duration.toMillis(lasts)])
          return "fleet" as const
        })
      const snapshot = Effect.succeed({ limit: 10 })
      const shared = { pattern: "Bulkhead", instance: "shared", site: "here", snapshot, actions: { resize } }
      yield* (yield* Registry).register(shared)
      const acted = yield* post(sent, { ...order, instance: "shared" })
      expect(acted.json).toMatchObject({ scope: "all processes", override: { scope: "all processes", input: 3 } })
      expect((yield* post(sent)).json).toMatchObject({ scope: "this process only" })
      const { overrides } = JSON.parse((yield* get(sent))?.body ?? "")
      const scopes = overrides.map(({ instance, scope }: Record<string, string>) => [instance, scope])
      expect(scopes).toEqual([["shared", "all processes"], ["db", "this process only"]])
      const back = { pattern: "Bulkhead", setting: "limit", reason: "done" }
      expect((yield* post(sent, { ...back, instance: "shared" }, "returns")).json).toEqual({ scope: "all processes" })
      expect((yield* post(sent, { ...back, instance: "db" }, "returns")).json).toEqual({ scope: "this process only" })
      // What is put back has no end: it was so before.
      expect(told).toEqual([[3, 60_000], [10, undefined]])
    }).pipe(Effect.provide(live())))

  it.scopedLive("takes no request that another site could have sent", () =>
    Effect.gen(function*() {
      const { get, limit, port, post } = yield* serve()
      const host = `127.0.0.1:${port}`
      const { "content-type": _, ...noType } = sent
      const { "x-resilience-admin": _field, ...noField } = sent
      const refused: ReadonlyArray<readonly [string, Record<string, string>, number]> = [
        ["no content type", noType, 415],
        ["a form", { ...sent, "content-type": "application/x-www-form-urlencoded" }, 415],
        ["plain text", { ...sent, "content-type": "text/plain" }, 415],
        ["what only begins like JSON", { ...sent, "content-type": "application/jsonp" }, 415],
        ["no field of ours", noField, 403],
        ["another site", { ...sent, "sec-fetch-site": "cross-site" }, 403],
        ["another host of the site", { ...sent, "sec-fetch-site": "same-site" }, 403],
        ["another origin", { ...sent, origin: "https://evil.example" }, 403],
        ["another port", { ...sent, origin: "http://127.0.0.1:1" }, 403],
        ["an origin that begins like ours", { ...sent, origin: `http://${host}.evil.example` }, 403],
        ["a sandboxed page", { ...sent, origin: "null" }, 403],
        ["a body that no order needs", { ...sent, "content-length": "1000000" }, 413],
        ["another name for this host", { ...sent, host: "evil.example" }, 421],
        [
          "that name with our port",
          { ...sent, host: `evil.example:${port}`, origin: `http://evil.example:${port}` },
          421
        ]
      ]
      for (const [what, headers, status] of refused) {
        expect([what, (yield* post(headers)).status]).toEqual([what, status])
      }
      expect(yield* limit).toBe(10)
      expect((yield* get({ ...sent, "sec-fetch-site": "cross-site" }))?.status).toBe(403)
      expect((yield* get({ ...sent, host: "evil.example" }))?.status).toBe(421)
      const own = { ...sent, origin: `http://${host}`, "sec-fetch-site": "same-origin" }
      expect((yield* post({ ...own, "content-type": "application/json; charset=utf-8" })).status).toBe(200)
      expect(yield* limit).toBe(3)
    }).pipe(Effect.provide(live())))

  it.scopedLive("takes the token whole, and nothing else", () =>
    Effect.gen(function*() {
      const { get, limit, post } = yield* serve()
      const { authorization: _, ...anonymous } = sent
      const bad = ["", "Bearer", "Bearer ", `Bearer ${token}0`, `Bearer ${token.slice(1)}`, `Basic ${token}`, token]
      for (const authorization of bad) expect((yield* post({ ...sent, authorization })).status).toBe(401)
      expect([(yield* post(anonymous)).status, (yield* get(anonymous))?.status]).toEqual([401, 401])
      expect(yield* limit).toBe(10)
      expect((yield* get({ authorization: `bearer ${token}` }))?.status).toBe(200)
    }).pipe(Effect.provide(live())))

  it.scopedLive("tells a client without a good token what it wants, and others nothing", () =>
    Effect.gen(function*() {
      const { get } = yield* serve()
      const wants = (headers: Record<string, string>) =>
        Effect.map(get(headers), (answer) => [answer?.status, answer?.headers["www-authenticate"]])
      const challenge = `Bearer realm="resilience-admin"`
      expect(yield* wants({})).toEqual([401, challenge])
      expect(yield* wants({ authorization: `Basic ${token}` })).toEqual([401, challenge])
      expect(yield* wants({ authorization: "Bearer no" })).toEqual([401, `${challenge}, error="invalid_token"`])
      const stealthy = yield* serve({ stealth: true })
      const nothing = yield* stealthy.get({})
      expect([nothing?.status, nothing?.headers["www-authenticate"]]).toEqual([404, undefined])
      const byAddress = yield* serve({ authorize: () => new ForbiddenError({ message: "No." }) })
      const refused = yield* byAddress.get({})
      expect([refused?.status, refused?.headers["www-authenticate"]]).toEqual([403, undefined])
    }).pipe(Effect.provide(live())))

  it.scopedLive("logs who was refused what, no more often than that is bounded, and never a token", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const logger = Logger.make(({ annotations, logLevel, message }) => {
        if (logLevel.label === "WARN") {
          logged.push(`${String(message)} ${JSON.stringify(Object.fromEntries(annotations))}`)
        }
      })
      yield* Effect.gen(function*() {
        const { get, post } = yield* serve()
        const wrong = { ...sent, authorization: "Bearer guess-of-a-token" }
        yield* post(wrong, { ...order, instance: `db"\n${"x".repeat(5000)}` })
        yield* get(wrong)
        yield* get(wrong)
        yield* get(sent)
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
      expect(logged.map((line) => line.slice(0, 60))).toEqual([
        expect.stringMatching(/^An admin refused resize of Bulkhead "db" x+$/),
        expect.stringMatching(/^An admin refused a look /)
      ])
      for (const line of logged) {
        expect(line).toContain(`"client":"127.0.0.1"`)
        expect(line).toContain(`"reason":"The request has no valid token."`)
        expect(line).not.toContain("guess")
        expect(line.length).toBeLessThan(500)
      }
    }).pipe(Effect.provide(Admin.layer({ rate: "2/hour" }).pipe(Layer.provideMerge(ResilienceLive)))))

  it.scopedLive("lets this machine in by its socket, and nobody by a header", () =>
    Effect.gen(function*() {
      const { post } = yield* serve({ authorize: Admin.loopbackOnly })
      for (
        const name of ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"]
      ) {
        expect([name, (yield* post({ ...sent, [name]: "127.0.0.1" })).status]).toEqual([name, 403])
      }
      expect((yield* post(sent)).status).toBe(200)
    }).pipe(Effect.provide(live())))

  it.scopedLive("cannot tell this machine from a proxy on it that does not say for whom it asks", () =>
    Effect.gen(function*() {
      const { url } = yield* serve({ authorize: Admin.loopbackOnly })
      // As nginx with a mere `proxy_pass` does.
      const proxy = http.createServer(({ headers, method, url: path }, response) => {
        const onward = http.request(
          `${url}${path}`,
          { method, headers: { ...headers, host: "127.0.0.1" } },
          (answer) => {
            response.writeHead(answer.statusCode ?? 0)
            answer.pipe(response)
          }
        )
        onward.end()
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))),
        () => Effect.sync(() => proxy.close())
      )
      const address = proxy.address()
      const front = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
      const asked = yield* Effect.promise(() => fetchNode(`${front}/admin/state`))
      expect(asked?.status).toBe(200)
    }).pipe(Effect.provide(live())))

  it.scopedLive("asks who may do what, for each action", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const { get, limit, post } = yield* serve({
        authorize: (_, action) => {
          asked.push(action._tag)
          return action._tag === "Look"
            ? Effect.succeed({ name: "bob" })
            : new ForbiddenError({ message: "Bob only looks." })
        }
      })
      expect((yield* get(sent))?.status).toBe(200)
      expect(yield* post(sent)).toMatchObject({ status: 403, json: { detail: "Bob only looks." } })
      expect([asked, yield* limit]).toEqual([["Look", "Act"], 10])
    }).pipe(Effect.provide(live())))

  it.scopedLive("says what is wrong with an order", () =>
    Effect.gen(function*() {
      const { limit, post } = yield* serve()
      const bad: ReadonlyArray<readonly [unknown, number, RegExp]> = [
        ["{", 400, /no JSON/],
        [{ ...order, reason: " " }, 400, /reason/],
        [{ ...order, reason: undefined }, 400, /reason/],
        [{ ...order, ttlSeconds: 0 }, 400, /ttlSeconds/],
        [{ ...order, ttlSeconds: 1e9 }, 400, /ttlSeconds must be at most 3600/],
        [{ ...order, ttl: 5 }, 400, /ttl/],
        [{ ...order, instance: "dc" }, 404, /there are: db/],
        [{ ...order, action: "constructor" }, 422, /there are: resize/],
        [{ ...order, input: -1 }, 422, /at least 1/]
      ]
      for (const [body, status, text] of bad) {
        const answer = yield* post(sent, body)
        expect([JSON.stringify(body).slice(0, 90), answer.status]).toEqual([JSON.stringify(body).slice(0, 90), status])
        expect(answer.json.detail).toMatch(text)
        // Who may not ask learns nothing of it.
        expect((yield* post({ ...sent, authorization: "Bearer no" }, body)).status).toBe(401)
      }
      expect(yield* limit).toBe(10)
    }).pipe(Effect.provide(live())))

  it.scopedLive("bounds how often anybody may ask, and locks nobody out for what others ask", () =>
    Effect.gen(function*() {
      const { get, post } = yield* serve()
      const wrong = { ...sent, authorization: "Bearer guess" }
      expect([(yield* post(wrong)).status, (yield* post(wrong)).status]).toEqual([401, 401])
      const third = yield* post(wrong)
      expect(third.status).toBe(429)
      expect(Number(third.headers?.["retry-after"])).toBeGreaterThan(0)
      expect([(yield* post(sent)).status, (yield* get(sent))?.status]).toEqual([200, 200])
      // A bad order counts as any other.
      const fifth = yield* post(sent, { ...order, reason: "" })
      expect(fifth.status).toBe(429)
      expect(Number(fifth.headers?.["retry-after"])).toBeGreaterThan(0)
    }).pipe(Effect.provide(live({ rate: "2/hour" }))))

  it.scopedLive("bounds each actor, and each client that a proxy tells of", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({
        clientIp: ClientIp.fromForwardedFor({ trusted: ["127.0.0.1"] }),
        authorize: ({ headers }) =>
          headers["x-user"] === undefined
            ? new ForbiddenError({ message: "Nobody." })
            : Effect.succeed({ name: headers["x-user"] })
      })
      const ask = (address: string, user?: string) =>
        Effect.map(
          get({ "x-forwarded-for": address, ...(user === undefined ? {} : { "x-user": user }) }),
          (answer) => answer?.status
        )
      expect([yield* ask("192.0.2.1"), yield* ask("192.0.2.1"), yield* ask("192.0.2.2")]).toEqual([403, 429, 403])
      const allowed: ReadonlyArray<readonly [string, string, number]> = [
        ["192.0.2.1", "alice", 200],
        ["192.0.2.1", "alice", 429],
        ["192.0.2.1", "bob", 200],
        ["192.0.2.2", "alice", 200]
      ]
      for (const [address, user, status] of allowed) {
        expect([address, user, yield* ask(address, user)]).toEqual([address, user, status])
      }
    }).pipe(Effect.provide(live({ rate: "1/hour" }))))

  it.scopedLive("in stealth tells those who may ask that they ask too often", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({ stealth: true })
      expect([(yield* get({}))?.status, (yield* get({}))?.status]).toEqual([404, 404])
      expect([(yield* get(sent))?.status, (yield* get(sent))?.status]).toEqual([200, 429])
    }).pipe(Effect.provide(live({ rate: "1/hour" }))))

  it.scopedLive("in stealth looks like nothing, to whoever may not ask", () =>
    Effect.gen(function*() {
      const { get, post } = yield* serve({ stealth: true })
      const nothing = { status: 404, body: "" }
      expect(yield* post({ ...sent, authorization: "Bearer no" })).toMatchObject(nothing)
      expect(yield* post({ ...sent, "content-type": "text/plain" })).toMatchObject(nothing)
      expect(yield* post({ ...sent, host: "evil.example" })).toMatchObject(nothing)
      expect(yield* get({})).toMatchObject(nothing)
      expect((yield* post(sent, { ...order, input: -1 })).status).toBe(422)
      expect((yield* post(sent)).status).toBe(200)
    }).pipe(Effect.provide(live())))

  it.scopedLive("is served by a layer router, with what `authorize` requires", () =>
    Effect.gen(function*() {
      class Users extends Context.Tag("Users")<Users, { readonly who: string }>() {}
      const server = http.createServer()
      const routes = Admin.layerRouter({
        path: "/admin",
        authorize: () => Effect.map(Users, ({ who }) => ({ name: who }))
      })
      yield* Layer.build(
        HttpLayerRouter.serve(routes, { disableLogger: true }).pipe(
          Layer.provide(Layer.succeed(Users, { who: "carol" })),
          Layer.provide(NodeHttpServer.layer(() => server, { port: 0, host: "127.0.0.1" }))
        )
      )
      yield* Bulkhead.make({ name: "db", maxConcurrent: 10 })
      const address = server.address()
      const url = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}/admin/actions`
      const answer = yield* Effect.promise(() =>
        fetchNode(url, { method: "POST", headers: sent, body: JSON.stringify(order) })
      )
      expect(JSON.parse(answer?.body ?? "")).toMatchObject({ override: { actor: "carol" } })
    }).pipe(Effect.provide(live())))
})

describe("without the right options", () => {
  it.scoped("a default that is longer than the longest is refused", () =>
    Effect.gen(function*() {
      const refused = (options: Admin.LayerOptions) =>
        Effect.map(Effect.exit(Layer.build(live(options))), (exit) => Exit.isFailure(exit) && Cause.pretty(exit.cause))
      expect(yield* refused({ defaultTtl: "5 hours", maxTtl: "1 hour" })).toContain(
        `Admin "admin": option defaultTtl must be at most maxTtl (1h), but is "5 hours"`
      )
      expect(yield* refused({ defaultTtl: "2 hours" })).toContain("option defaultTtl must be at most maxTtl (1h)")
      expect(yield* refused({ defaultTtl: "1 hour" })).toBe(false)
    }))

  it("HT22: there is no admin", () => {
    expect(() => Admin.router({} as never)).toThrow(/Admin "admin": option authorize must be a function/)
    expect(() => Admin.layerRouter({ path: "/" } as never)).toThrow(/authorize/)
    expect(() => Admin.router({ authorize: Admin.loopbackOnly, hosts: [] })).toThrow(/hosts/)
    expect(() => Admin.router({ authorize: Admin.loopbackOnly, clientIp: "cf-connecting-ip" as never })).toThrow(
      /option clientIp must be a rule/
    )
    expect(() => Admin.bearer(Redacted.make("short"))).toThrow(/at least 16 characters/)
    expect(() => Admin.bearer(Redacted.make("short"))).not.toThrow(/"short"/)
  })
})
