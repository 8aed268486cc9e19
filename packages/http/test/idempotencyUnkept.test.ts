import type { StoredResponse } from "@effect-resilience/http"
import { Idempotency, IdempotencyStore, IdempotencyStoreError } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, HashMap, Layer, Logger, Metric, Scope, TestClock } from "effect"
import { tryingAgain } from "../src/internal/idempotency/again.js"
import { boundedStore } from "../src/internal/idempotency/bounded.js"
import { Unkept } from "../src/internal/idempotency/unkept.js"
import { interrupted, turns } from "./utils/idempotencySweep.js"
import { serveWeb } from "./utils/servers.js"

/*
 * A request is carried out, and the store fails to keep its response: it is tried again, and until then this process
 * answers for it.
 */

type Operation = IdempotencyStoreError["operation"]

/** A memory that fails to do what is in `broken`; `layer` has it watched, until its scope is closed. */
const makeStore = Effect.gen(function*() {
  const memory = yield* IdempotencyStore.makeMemory()
  const broken = new Set<Operation>()
  const tried = { begin: 0, complete: 0, release: 0 }
  const mayFail = <A>(operation: Operation, effect: Effect.Effect<A, IdempotencyStoreError>) =>
    Effect.suspend(() => {
      tried[operation]++
      return broken.has(operation)
        ? Effect.fail(new IdempotencyStoreError({ operation, reason: "Timeout", detail: "hangs" }))
        : effect
    })
  const store: IdempotencyStore.Service = {
    begin: (request) => mayFail("begin", memory.begin(request)),
    complete: (request) => mayFail("complete", memory.complete(request)),
    release: (owner) => mayFail("release", memory.release(owner))
  }
  return { memory, broken, tried, store }
})

/** A process with a store: pays under a key, and counts how often that was done. */
const makeProcess = (
  store: IdempotencyStore.Service,
  options: Partial<Idempotency.Options<never>> = {},
  status = 201
) =>
  Effect.gen(function*() {
    let paid = 0
    const handler = yield* Effect.provide(
      serveWeb(HttpRouter.empty.pipe(
        HttpRouter.post("/pay", Effect.suspend(() => HttpServerResponse.text(`payment ${++paid}`, { status }))),
        Idempotency.middleware({ name: "pay", principal: Idempotency.anybody, lease: "10 seconds", ...options })
      )),
      Layer.succeed(IdempotencyStore, store)
    )
    const pay = (body = "1") =>
      Effect.promise(async () => {
        const headers = { "idempotency-key": "\"a\"" }
        const reply = await handler(new Request("http://x.test/pay", { method: "POST", headers, body }))
        return {
          status: reply.status,
          text: await reply.text(),
          isReplayed: reply.headers.get("idempotency-replayed") === "true"
        }
      })
    return { pay, paid: () => paid }
  })

/** Time passes, and what it wakes is done. */
const seconds = (n: number) => Effect.replicateEffect(Effect.zipRight(TestClock.adjust("500 millis"), turns(12)), 2 * n)

const countsOf = (name: string, label: string, owner: string) =>
  Effect.map(Metric.snapshot, (pairs) =>
    Object.fromEntries(pairs.flatMap(({ metricKey, metricState }) => {
      const labels = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
      return metricKey.name === name && labels["resilience.name"] === owner
        ? [[labels[label], (metricState as { readonly count?: number }).count]]
        : []
    })))

const logged = <A, E, R>(effect: (lines: Array<ReadonlyArray<unknown>>) => Effect.Effect<A, E, R>) => {
  const lines: Array<ReadonlyArray<unknown>> = []
  const logger = Logger.make(({ annotations, message }) => {
    const key = HashMap.get(annotations, "key")
    lines.push([...[message].flat(), ...(key._tag === "Some" ? [key.value] : [])])
  })
  return Effect.provide(effect(lines), Logger.replace(Logger.defaultLogger, logger))
}

describe("a response that the store failed to keep", () => {
  it.scoped("RS9: is known to this process at once, to others when the store is back, and is carried out once", () =>
    Effect.gen(function*() {
      const { broken, memory, store } = yield* makeStore
      const one = yield* makeProcess(store)
      const other = yield* makeProcess(store)
      broken.add("complete")
      expect(yield* one.pay()).toEqual({ status: 201, text: "payment 1", isReplayed: false })
      expect(yield* one.pay()).toEqual({ status: 201, text: "payment 1", isReplayed: true })
      expect((yield* one.pay("2")).status).toBe(422)
      expect((yield* other.pay()).status).toBe(409)
      yield* seconds(3)
      expect((yield* memory.metrics).done).toBe(0)
      broken.clear()
      yield* seconds(5)
      expect(yield* other.pay()).toEqual({ status: 201, text: "payment 1", isReplayed: true })
      // It is the store's now, for as long as that keeps it.
      yield* seconds(10)
      expect(yield* one.pay()).toEqual({ status: 201, text: "payment 1", isReplayed: true })
      expect([one.paid(), other.paid()]).toEqual([1, 0])
    }))

  it.scoped("is known also while nothing can be asked of the store", () =>
    Effect.gen(function*() {
      const { broken, store } = yield* makeStore
      const { paid, pay } = yield* makeProcess(store)
      broken.add("complete")
      yield* pay()
      broken.add("begin")
      expect(yield* pay()).toMatchObject({ status: 201, isReplayed: true })
      expect(paid()).toBe(1)
    }))

  it.scoped("RS9: is told by its key when the length of a lease is over, and counted", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const { broken, store, tried } = yield* makeStore
        const { paid, pay } = yield* makeProcess(store, { name: "given-up", revealKey: true })
        broken.add("complete")
        yield* pay()
        const told = () => lines.filter(([text]) => String(text).includes("did not keep the response"))
        yield* seconds(9)
        expect(told()).toEqual([])
        yield* seconds(4)
        expect(told()).toEqual([[
          expect.stringMatching(/^Idempotency "given-up": .*: IdempotencyStore: complete failed \(Timeout\): hangs$/),
          "a"
        ]])
        // Spaced, but not too rarely.
        const attempts = tried.complete
        expect(attempts).toBeGreaterThan(6)
        expect(attempts).toBeLessThan(20)
        yield* seconds(10)
        expect(tried.complete).toBe(attempts)
        expect(yield* countsOf("resilience.idempotency.responses", "result", "given-up")).toEqual({ not_kept: 1 })
        // What this process knew is forgotten with it.
        expect((yield* pay()).isReplayed).toBe(false)
        expect(paid()).toBe(2)
      })
    ))

  it.scoped("is told by the digest of its key, where that may not be shown", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const { broken, store } = yield* makeStore
        const { pay } = yield* makeProcess(store)
        broken.add("complete")
        yield* pay()
        yield* seconds(13)
        expect(lines.at(-1)).toEqual([expect.any(String), expect.stringMatching(/^[0-9a-f]{64}$/)])
      })
    ))

  it.scoped("is not kept where its key is another's by then", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const { broken, memory, store } = yield* makeStore
        const one = yield* makeProcess(store, { name: "late" })
        const other = yield* makeProcess(store, { name: "late" })
        broken.add("complete")
        yield* one.pay()
        // The store has lost what it had, and another process comes.
        Object.assign(memory, yield* IdempotencyStore.makeMemory())
        expect((yield* other.pay()).status).toBe(201)
        broken.clear()
        yield* seconds(5)
        expect(yield* countsOf("resilience.idempotency.responses", "result", "late")).toEqual({
          kept_later: 1,
          lease_lost: 1
        })
        expect(lines.filter(([text]) => String(text).includes("another one with the key was"))).toHaveLength(1)
      })
    ))

  it.scoped("is given up with the layer of the store, and told then", () =>
    logged((lines) =>
      Effect.gen(function*() {
        const { broken, store, tried } = yield* makeStore
        const scope = yield* Scope.make()
        const watched = yield* Scope.extend(IdempotencyStore.watched("closing", store), scope)
        const { pay } = yield* makeProcess(watched, { name: "closed" })
        broken.add("complete")
        yield* pay()
        yield* seconds(1)
        yield* Scope.close(scope, Exit.void)
        const attempts = tried.complete
        yield* seconds(10)
        expect(tried.complete).toBe(attempts)
        // And so is one that comes when it is closed already.
        yield* pay()
        yield* seconds(1)
        expect(lines.filter(([text]) => String(text).includes("did not keep the response"))).toHaveLength(2)
        expect(yield* countsOf("resilience.idempotency.responses", "result", "closed")).toEqual({ not_kept: 2 })
        expect(yield* countsOf("resilience.idempotency.store_errors", "operation", "closing")).toEqual({
          complete: tried.complete
        })
      })
    ))

  it.live("is kept in the end, wherever its request is interrupted", () =>
    Effect.gen(function*() {
      const cases = [12, 23].flatMap((budget) =>
        Array.from({ length: 6 }, (_, step) => Array.from({ length: 9 }, (_, n) => ({ budget, phase: 2 * step, n })))
          .flat()
      )
      const all = yield* Effect.forEach(cases, ({ budget, n, phase }) =>
        Effect.gen(function*() {
          const memory = yield* IdempotencyStore.makeMemory()
          let tries = 0
          const complete: IdempotencyStore.Service["complete"] = (request) =>
            tries++ === 0
              ? Effect.fail(new IdempotencyStoreError({ operation: "complete", reason: "Timeout" }))
              : memory.complete(request)
          yield* interrupted({ ...memory, complete }, "complete", 1, n, phase, budget)
          return memory
        }), { concurrency: 20 })
      const unkept = Effect.map(
        Effect.forEach(all, (memory) => memory.metrics),
        (all) => all.filter(({ done, inFlight }) => done !== 1 || inFlight !== 0).length
      )
      yield* Effect.repeat(Effect.zipLeft(unkept, Effect.sleep("20 millis")), { until: (n) => n === 0, times: 200 })
      expect(yield* unkept).toBe(0)
      expect(all).toHaveLength(108)
    }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger))))

  it.effect("waits among so many at most, of so many bytes", () =>
    Effect.gen(function*() {
      const fail = Effect.fail(new IdempotencyStoreError({ operation: "complete", reason: "Timeout" }))
      const store = { complete: () => fail }
      const lost: Array<string> = []
      const told = {
        request: () => Effect.void,
        response: (kept: string, shown: string) => Effect.sync(() => void lost.push(`${shown} ${kept}`))
      }
      const scope = yield* Scope.make()
      const again = tryingAgain(Duration.minutes(1), scope)
      const unkept = new Unkept(store, again, told, { entries: 3, bytes: 1000 })
      const add = (key: string, size: number) => {
        const response: StoredResponse = { status: 201, headers: {}, cookies: [], body: new Uint8Array(size) }
        return unkept.tryAgain({ key, token: key, fingerprint: key, response, ttl: Duration.hours(1) }, key)
      }
      yield* add("a", 600)
      yield* add("b", 500)
      yield* add("c", 400)
      yield* add("d", 0)
      yield* add("e", 0)
      expect(lost).toEqual(["b not_kept", "e not_kept"])
      expect(["a", "b", "c", "d", "e"].filter((key) => unkept.find(key) !== undefined)).toEqual(["a", "c", "d"])
      yield* Scope.close(scope, Exit.void)
      expect(lost).toHaveLength(5)
      // There is room again.
      yield* add("f", 1000)
      expect(lost).toHaveLength(5)
    }))
})

describe("a key that the store failed to let go", () => {
  /** As the layers of stores have it. */
  const makeStoreOfLayer = Effect.gen(function*() {
    const made = yield* makeStore
    return { ...made, store: { ...made.store, scope: yield* Effect.scope } }
  })
  const quiet = { failed: () => Effect.void, worked: Effect.void }

  /** Lets go, and its answer is lost; or takes a key, and its answer is lost. */
  const losing = (
    operation: "begin" | "release",
    { broken, store }: Effect.Effect.Success<typeof makeStoreOfLayer>
  ) => {
    const act: (request: IdempotencyStore.Begin) => Effect.Effect<unknown, IdempotencyStoreError> = store[operation]
    return Object.assign({ ...store }, {
      [operation]: (request: IdempotencyStore.Begin) =>
        Effect.tap(act(request), () =>
          broken.has("complete")
            ? Effect.fail(new IdempotencyStoreError({ operation, reason: "Timeout" }))
            : Effect.void)
    }) as IdempotencyStore.Service
  }

  it.scoped("RS12: is free as soon as the store is back, and not when its lease is over", () =>
    Effect.gen(function*() {
      const { broken, store, tried } = yield* makeStoreOfLayer
      const one = yield* makeProcess(store, {}, 503)
      const other = yield* makeProcess(store)
      broken.add("release")
      expect((yield* one.pay()).status).toBe(503)
      yield* seconds(3)
      expect((yield* other.pay()).status).toBe(409)
      broken.clear()
      yield* seconds(3)
      expect((yield* other.pay()).text).toBe("payment 1")
      const { release } = tried
      yield* seconds(10)
      expect(tried.release).toBe(release)
    }))

  it.scoped("RS12: that it took without saying so is free as soon as the store is back", () =>
    Effect.gen(function*() {
      const made = yield* makeStoreOfLayer
      const { broken, store } = made
      const one = yield* makeProcess(losing("begin", made))
      const other = yield* makeProcess(store)
      broken.add("complete").add("release")
      expect((yield* one.pay()).status).toBe(503)
      expect((yield* other.pay()).status).toBe(409)
      broken.clear()
      yield* seconds(3)
      expect((yield* other.pay()).text).toBe("payment 1")
      expect(one.paid()).toBe(0)
    }))

  it.scoped("RS12: and let go twice, as its answer was lost, takes no key of another", () =>
    Effect.gen(function*() {
      const made = yield* makeStoreOfLayer
      const { broken, store } = made
      const one = yield* makeProcess(losing("release", made), {}, 503)
      const other = yield* makeProcess(store)
      broken.add("complete")
      yield* one.pay()
      broken.clear()
      expect((yield* other.pay()).text).toBe("payment 1")
      yield* seconds(3)
      expect(yield* other.pay()).toEqual({ status: 201, text: "payment 1", isReplayed: true })
    }))

  it.scoped("RS12: is tried again for the length of a lease, and for a thousand keys at once at most", () =>
    Effect.gen(function*() {
      const { broken, store, tried } = yield* makeStoreOfLayer
      const { pay } = yield* makeProcess(store, {}, 503)
      broken.add("release")
      yield* pay()
      yield* seconds(13)
      const attempts = tried.release
      expect(attempts).toBeGreaterThan(6)
      expect(attempts).toBeLessThan(20)
      yield* seconds(10)
      expect(tried.release).toBe(attempts)
      // Nothing of those that are over is in the way of the next.
      const bounded = boundedStore(store, Duration.seconds(1), quiet, tryingAgain(Duration.seconds(10), undefined))
      yield* Effect.forEach(
        Array.from({ length: 1100 }),
        (_, i) => Effect.ignore(bounded.release({ key: `${i}`, token: "t" }))
      )
      const first = tried.release
      yield* TestClock.adjust("150 millis")
      yield* turns(12)
      expect(tried.release - first).toBe(1000)
    }))
  it.scoped("RS12: is tried again although an outage has failed more requests that may have no key at all", () =>
    Effect.gen(function*() {
      const { broken, memory, store } = yield* makeStoreOfLayer
      const again = tryingAgain(Duration.minutes(5), undefined)
      const bounded = boundedStore(store, Duration.seconds(1), quiet, again)
      const asked = { fingerprint: "f", lease: Duration.minutes(5) }
      yield* bounded.begin({ ...asked, key: "taken", token: "t" })
      broken.add("begin").add("release")
      yield* Effect.forEach(
        Array.from({ length: 1100 }),
        (_, i) => Effect.ignore(bounded.begin({ ...asked, key: `${i}`, token: "t" }))
      )
      yield* Effect.ignore(bounded.release({ key: "taken", token: "t" }))
      broken.clear()
      yield* TestClock.adjust("150 millis")
      yield* turns(12)
      expect(yield* memory.begin({ ...asked, key: "taken", token: "other" })).toEqual({ _tag: "New" })
    }))

  it.scoped("RS12: is not tried again where the store has no scope, whose end would end that", () =>
    Effect.gen(function*() {
      const { broken, store, tried } = yield* makeStore
      const { pay } = yield* makeProcess(store, {}, 503)
      broken.add("release")
      yield* pay()
      yield* seconds(3)
      expect(tried.release).toBe(1)
    }))

  it.scoped("RS12: nor when that scope is closed", () =>
    Effect.gen(function*() {
      const { broken, store, tried } = yield* makeStore
      const scope = yield* Scope.make()
      const { pay } = yield* makeProcess({ ...store, scope }, {}, 503)
      broken.add("release")
      yield* pay()
      yield* seconds(1)
      expect(tried.release).toBeGreaterThan(1)
      yield* Scope.close(scope, Exit.void)
      const { release } = tried
      yield* seconds(5)
      expect(tried.release).toBe(release)
    }))
})
