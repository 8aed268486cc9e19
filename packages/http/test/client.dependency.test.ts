import { HttpClient, HttpClientRequest } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Array as Arr, Effect, Layer } from "effect"
import type { Arrival, Dependency } from "../../../examples/src/demo/dependency.js"
import { makeDependency, retryAfter } from "../../../examples/src/demo/dependency.js"
import { transports } from "./utils/backend.js"
import { eventually, isWhole, quick, resilient, services } from "./utils/client.js"

/** What the dependency of the demo goes through, but for the crowd, which needs no failure to be too much. */
const phases = ["healthy", "erroring", "refusing", "healthy", "slow", "hanging", "recovering"] as const

/** A call that the server can tell from every other. */
const named = (request: HttpClientRequest.HttpClientRequest, id: string) =>
  HttpClientRequest.setHeader(request, "x-call", id)

/** What the server saw, call by call. */
const byCall = ({ arrivals }: Dependency): ReadonlyArray<ReadonlyArray<Arrival>> =>
  Object.values(Arr.groupBy(arrivals, ({ headers }) => String(headers["x-call"])))

const times = <A, E, R>(n: number, call: (i: number) => Effect.Effect<A, E, R>, concurrency: number) =>
  Effect.forEach(Array.from({ length: n }, (_, i) => i), (i) => Effect.exit(call(i)), { concurrency })

describe("the client against the failing server of the demo", () => {
  for (const transport of ["undici", "node"] as const) {
    it.scopedLive(
      `leaks no socket of a pool of one, sends no POST twice, and comes back no sooner than asked, over ${transport}`,
      () =>
        Effect.gen(function*() {
          const dependency = yield* makeDependency
          const client = yield* resilient({
            name: "api",
            timeout: "4 seconds",
            attemptTimeout: "150 millis",
            retry: { ...quick, budget: false },
            circuitBreaker: false,
            bulkhead: { maxConcurrent: 1, maxQueued: 100, maxWait: "4 seconds" }
          })
          const read = (request: HttpClientRequest.HttpClientRequest) =>
            Effect.flatMap(client.execute(request), ({ text }) => text)
          for (const [n, mode] of phases.entries()) {
            yield* dependency.become(mode)
            // One answer in four is an error, and those are what tells of the waits.
            yield* times(mode === "erroring" ? 48 : 8, (i) => {
              const id = `${n} ${mode} ${i}`
              const post = named(HttpClientRequest.post(dependency.url), id).pipe(HttpClientRequest.bodyText(id))
              if (i % 4 === 0) return read(post)
              if (i % 4 === 1) return read(HttpClientRequest.setHeader(post, "idempotency-key", `key of ${id}`))
              return read(named(HttpClientRequest.get(dependency.url), id))
            }, 12)
            expect(yield* isWhole("api")).toBe(true)
            yield* eventually(Effect.sync(() => dependency.sockets() <= 1))
          }
          // The one connection is there for the next.
          yield* dependency.become("healthy")
          expect(yield* read(HttpClientRequest.get(dependency.url))).toBe("fresh")

          const calls = byCall(dependency)
          const posts = calls.filter(([first]) => first?.method === "POST")
          const once = posts.filter(([first]) => first?.headers["idempotency-key"] === undefined)
          expect(once.length).toBeGreaterThan(15)
          for (const arrivals of once) expect(arrivals).toHaveLength(1)
          // Those with a key may come again, and can be known by it.
          for (const arrivals of posts) {
            expect(arrivals.length).toBeLessThanOrEqual(3)
            expect(new Set(arrivals.map(({ body, headers }) => `${headers["idempotency-key"]} ${body}`)).size).toBe(1)
          }

          const pauses = calls.flatMap((arrivals) =>
            arrivals.flatMap(({ answer }, i) => {
              const next = arrivals[i + 1]
              return answer?.status === 503 && next !== undefined ? [next.at - answer.at] : []
            })
          )
          expect(pauses.length).toBeGreaterThan(0)
          expect(Math.min(...pauses)).toBeGreaterThanOrEqual(1000 * retryAfter - 1)
        }).pipe(Effect.provide(Layer.merge(transports[transport], services))),
      60_000
    )
  }

  /** Requests for 80 calls of each failing phase, and what they may be. */
  const amplification = (budget: { readonly tokensPerSuccess: number; readonly maxTokens: number } | false) =>
    Effect.gen(function*() {
      const dependency = yield* makeDependency
      const sent = { count: 0 }
      const counting = HttpClient.transform(yield* HttpClient.HttpClient, (effect) =>
        Effect.suspend(() => {
          sent.count++
          return effect
        }))
      const client = yield* Effect.provideService(
        resilient({
          name: "api",
          attemptTimeout: "200 millis",
          retry: { ...quick, budget },
          circuitBreaker: false
        }),
        HttpClient.HttpClient,
        counting
      )
      let calls = 0
      let succeeded = 0
      for (const mode of ["erroring", "refusing", "slow", "hanging"] as const) {
        yield* dependency.become(mode)
        yield* times(80, () =>
          Effect.suspend(() => {
            calls++
            return Effect.map(client.get(dependency.url), ({ status }) => {
              if (status === 200) succeeded++
            })
          }), 12)
      }
      return { calls, sent: sent.count, succeeded }
    }).pipe(Effect.provide(Layer.merge(transports.fetch, services)))

  it.scopedLive("asks it no more often than the budget has it, in whatever way it fails", () =>
    Effect.gen(function*() {
      const budget = { tokensPerSuccess: 0.2, maxTokens: 10 }
      const { calls, sent, succeeded } = yield* amplification({ ...budget })
      expect(calls).toBe(320)
      // The burst of a full budget, and a fifth of what went well.
      expect(sent - calls).toBeLessThanOrEqual(budget.maxTokens + budget.tokensPerSuccess * succeeded)
      expect(sent / calls).toBeLessThanOrEqual(1 + budget.tokensPerSuccess + budget.maxTokens / calls)
      expect(sent).toBeGreaterThan(calls)
    }), 60_000)

  it.scopedLive("which it would, were there none", () =>
    Effect.gen(function*() {
      const { calls, sent } = yield* amplification(false)
      expect(sent / calls).toBeGreaterThan(2)
    }), 60_000)
})
