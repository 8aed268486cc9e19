import { describe, expect, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Option } from "effect"
import { inject } from "vitest"
import type { Answer } from "../../http/test/utils/servers.js"
import { fetchNode } from "../../http/test/utils/servers.js"
import { connect, freshPrefix } from "./utils/connected.js"
import { scale } from "./utils/scale.js"
import { Worker } from "./utils/worker.js"

const url = String(inject("redisUrl"))

const [long, brief, briefest] = [60_000, 600, 300] as const
type Lease = typeof long | typeof brief | typeof briefest

/** Two shops in processes of their own, and how often each order was carried out. */
class Shops extends Effect.Service<Shops>()("test/Shops", {
  scoped: Effect.gen(function*() {
    const prefix = freshPrefix()
    const redis = yield* connect(url, { prefix })
    const file = new URL("./workers/shop.ts", import.meta.url)
    const start = Worker.start(file, url, prefix, ...[long, brief, briefest].map(String))
    const opened = (worker: Worker) =>
      Effect.map(worker.next, (message) => {
        const { port } = message as { readonly port: number }
        const order = (lease: Lease, id: string, millis: number): Effect.Effect<Answer> =>
          Effect.promise(async () => {
            const answer = await fetchNode(`http://127.0.0.1:${port}/${lease}`, {
              method: "POST",
              headers: { "idempotency-key": `"${id}"`, "content-type": "application/json" },
              body: JSON.stringify({ id, millis })
            })
            return answer ?? { status: 0, headers: {}, body: "", complete: false }
          })
        /** Until it says that it carries an order out. */
        const began = (id: string) =>
          Effect.repeat(worker.next, { until: (message) => (message as { readonly began?: string }).began === id })
        return { kill: (signal: NodeJS.Signals) => worker.child.kill(signal), began, order }
      })
    const [a, b] = yield* Effect.all([start, start])
    const [first, second] = yield* Effect.all([opened(a), opened(b)])
    const carriedOut = (id: string) => Effect.map(redis.command("get", `${prefix}carried-out:${id}`), Number)
    return { first, second, carriedOut }
  })
}) {}

const by = (answer: Answer): number => (JSON.parse(answer.body) as { readonly by: number }).by

describe.skipIf(inject("redisUrl") === undefined)("idempotency among processes", () => {
  layer(Shops.Default, { excludeTestServices: true, timeout: 20_000 })((it) => {
    it.scoped("RS2: of requests with one key that reach two processes at once, one is carried out", () =>
      Effect.gen(function*() {
        const { carriedOut, first, second } = yield* Shops
        const ids = Array.from({ length: scale(150, 2000) }, (_, n) => `o${n}`)
        const orders = yield* Effect.forEach(
          ids,
          (id) =>
            Effect.map(
              // Twice at each, all four at once.
              Effect.all([first, second, second, first].map(({ order }) => order(long, id, 10)), {
                concurrency: "unbounded"
              }),
              (answers) => ({ id, answers })
            ),
          { concurrency: 25 }
        )
        const winners = new Set<number>()
        for (const { answers, id } of orders) {
          expect(yield* carriedOut(id)).toBe(1)
          const outcomes = answers.map(({ headers, status }) =>
            status === 201 && headers["idempotency-replayed"] === "true" ? "replayed" : status
          )
          expect(outcomes.filter((outcome) => outcome === 201)).toHaveLength(1)
          expect(outcomes.filter((outcome) => ![201, 409, "replayed"].includes(outcome))).toEqual([])
          for (const answer of answers) if (answer.status === 201) winners.add(by(answer))
        }
        expect(winners.size).toBe(2)
        // Each repeats what the other has done.
        for (const { answers, id } of orders.slice(0, 20)) {
          const done = answers.find(({ status }) => status === 201)
          for (const { order } of [first, second]) {
            const again = yield* order(long, id, 10)
            expect(again).toMatchObject({ status: 201, body: done?.body })
            expect(again.headers["idempotency-replayed"]).toBe("true")
          }
          expect(yield* carriedOut(id)).toBe(1)
        }
      }))

    it.scoped("RS3: one that was stopped beyond its lease has no key any more: the other's response stays", () =>
      Effect.gen(function*() {
        const { carriedOut, first, second } = yield* Shops
        const late = yield* Effect.fork(first.order(briefest, "stopped", 200))
        yield* first.began("stopped")
        first.kill("SIGSTOP")
        yield* Effect.sleep(Duration.millis(briefest + 50))
        const done = yield* second.order(briefest, "stopped", 200)
        expect(done.status).toBe(201)
        first.kill("SIGCONT")
        const answer = yield* Fiber.join(late)
        // Its client gets its own response, for its request was carried out; everybody else gets the one that is kept.
        expect(by(answer)).not.toBe(by(done))
        for (const { order } of [first, second]) {
          expect((yield* order(briefest, "stopped", 200)).body).toBe(done.body)
        }
        expect(yield* carriedOut("stopped")).toBe(2)
      }))

    // The last one: nobody starts it again.
    it.scoped("RS3: kill -9 of the process that carries it out frees the key after its lease, and no sooner", () =>
      Effect.gen(function*() {
        const { carriedOut, first, second } = yield* Shops
        yield* Effect.fork(first.order(brief, "killed", 60_000))
        yield* first.began("killed")
        // Its lease is renewed for as long as it lives.
        yield* Effect.sleep(Duration.millis(2 * brief))
        expect((yield* second.order(brief, "killed", 60_000)).status).toBe(409)
        first.kill("SIGKILL")
        const killed = performance.now()
        const freed = yield* Effect.repeat(
          Effect.map(Effect.timeoutOption(second.order(brief, "killed", 60_000), "100 millis"), (answer) => ({
            // It is being carried out: there is no answer yet.
            isFree: Option.isNone(answer),
            after: performance.now() - killed
          })),
          { until: ({ isFree }) => isFree }
        )
        expect(yield* carriedOut("killed")).toBe(2)
        // It was renewed a third of a lease ago, or later.
        expect(freed.after).toBeGreaterThan(brief * 2 / 3 - 50)
        expect(freed.after).toBeLessThan(brief + 300)
      }))
  })
})
