import { ResilientHttpClient } from "@effect-resilience/http"
import { HttpClient, HttpClientResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { isWhole, services } from "./utils/client.js"

const pad = (n: number): Effect.Effect<void> => n === 0 ? Effect.void : Effect.flatMap(Effect.void, () => pad(n - 1))
const yields = (n: number): Effect.Effect<void> =>
  n === 0 ? Effect.void : Effect.zipRight(Effect.yieldNow(), yields(n - 1))

/** So many steps; those after the first sixty are longer, for what a stream of the web does takes many. */
const advance = (steps: number): Effect.Effect<void> =>
  steps <= 60 ? yields(steps) : Effect.zipRight(yields(60), Effect.repeatN(Effect.sleep(0), steps - 61))

/** A transport in memory, whose connections are counted: each is open until its body is read or aborted. */
class Wire {
  open = 0
  sent = 0
  /** Answers after `work` with these statuses in turn. */
  client(work: Effect.Effect<unknown>, statuses: ReadonlyArray<number>) {
    let turn = 0
    return HttpClient.make((request, _url, signal) =>
      Effect.suspend(() => {
        this.open++
        this.sent++
        let closed = false
        const close = () => {
          if (closed) return
          closed = true
          this.open--
        }
        signal.addEventListener("abort", close)
        const body = new ReadableStream({
          pull: (controller) => {
            controller.enqueue(new Uint8Array(2))
            controller.close()
            close()
          }
        }, { highWaterMark: 0 })
        const status = statuses[Math.min(turn++, statuses.length - 1)] ?? 200
        return Effect.as(
          work,
          HttpClientResponse.fromWeb(request, new Response(body, { status, headers: { "content-length": "2" } }))
        )
      })
    )
  }
}

/**
 * Interrupts a call at every operation: it yields after `budget` operations, a growing prefix moves that yield over every
 * one, and the interruption comes after a growing number of steps. Returns where something was lost.
 */
const sweep = (statuses: ReadonlyArray<number>, budget: number, contended: boolean) =>
  Effect.gen(function*() {
    const wire = new Wire()
    let answered = 0
    const standard = ResilientHttpClient.standard({
      name: "swept",
      circuitBreaker: { consecutiveFailures: false, minimumCalls: 1e6 },
      retry: { initialDelay: 0, budget: false },
      bulkhead: { maxConcurrent: 1 }
    })
    const call = (work: Effect.Effect<unknown>) =>
      Effect.flatMap(standard(wire.client(work, statuses)).get("http://swept.test/"), (response) => {
        answered++
        return response.text
      })
    yield* call(Effect.void)
    const leaks: Array<string> = []
    let interrupted = 0
    for (let phase = 0; phase < budget; phase++) {
      for (let steps = 0; steps <= 75; steps++) {
        const gate = yield* Deferred.make<void>()
        const holder = contended ? yield* Effect.fork(call(Deferred.await(gate))) : undefined
        yield* yields(contended ? 6 : 0)
        const victim = yield* Effect.fork(
          Effect.withMaxOpsBeforeYield(Effect.zipRight(pad(phase), call(Effect.void)), budget)
        )
        yield* advance(contended ? Math.floor(steps / 2) : 0)
        yield* Deferred.succeed(gate, void 0)
        yield* advance(contended ? Math.ceil(steps / 2) : steps)
        const exit = yield* Fiber.interrupt(victim)
        if (Exit.isInterrupted(exit)) interrupted++
        if (holder !== undefined) yield* Fiber.join(holder)
        // A stream of the web is given back by promises.
        let waits = 0
        while (!(wire.open === 0 && (yield* isWhole("swept"))) && waits++ < 100) yield* Effect.sleep(0)
        if (waits > 100) {
          leaks.push(`phase ${phase}, steps ${steps}: ${wire.open} open`)
          wire.open = 0
        }
      }
    }
    return { leaks, interrupted, sent: wire.sent, answered }
  })

describe("a call that is interrupted anywhere leaves no permit taken and no connection open", () => {
  for (const [what, statuses] of [["that is answered", [200]], ["that is retried", [503, 200]]] as const) {
    for (const contended of [false, true]) {
      it.live(`${what}${contended ? ", while another has the permit" : ""}`, () =>
        Effect.gen(function*() {
          for (const budget of [contended ? 16 : 23]) {
            const scope = yield* Scope.make()
            const context = yield* Layer.buildWithScope(services, scope)
            const { answered, interrupted, leaks, sent } = yield* Effect.provide(
              sweep(statuses, budget, contended),
              context
            )
            expect(leaks).toEqual([])
            expect(interrupted).toBeGreaterThan(200)
            expect(answered).toBeGreaterThan(100)
            expect(sent).toBeGreaterThan(500)
            yield* Scope.close(scope, Exit.void)
          }
        }), 120_000)
    }
  }
})
