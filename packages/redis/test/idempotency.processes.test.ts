import { describe, expect, layer } from "@effect/vitest"
import { Duration, Effect, Fiber, Option } from "effect"
import { inject } from "vitest"
import { connect, freshPrefix } from "./utils/connected.js"
import { scale } from "./utils/scale.js"
import { Worker } from "./utils/worker.js"
import type { Order, Told } from "./workers/shop.js"

const url = String(inject("redisUrl"))

type Answer = Exclude<Told, { readonly began: string }>

/** A shop in a process of its own. */
const startShop = (prefix: string) =>
  Effect.gen(function*() {
    const worker = yield* Worker.start(new URL("./workers/shop.ts", import.meta.url), url, prefix)
    const waiting = new Map<number | string, (told: Answer) => void>()
    let sent = 0
    /** Until it says that it carries an order out, or what it answered. */
    const hear = (what: number | string) =>
      Effect.async<Answer>((resume) => {
        waiting.set(what, (told) => resume(Effect.succeed(told)))
      })
    const began = (id: string) => hear(id)
    yield* Effect.forkScoped(Effect.forever(Effect.map(worker.next, (message) => {
      const told = message as Told
      const what = "n" in told ? told.n : told.began
      waiting.get(what)?.(told as Answer)
      waiting.delete(what)
    })))
    const order = (lease: number, id: string, takes: number): Effect.Effect<Answer> =>
      Effect.suspend(() => {
        const n = ++sent
        const order: Order = { n, id, lease, takes }
        worker.send(order)
        return hear(n)
      })
    return { kill: (signal: NodeJS.Signals) => worker.child.kill(signal), began, order }
  })

/** Two of them, and how often each order was carried out. */
class Shops extends Effect.Service<Shops>()("test/Shops", {
  scoped: Effect.gen(function*() {
    const prefix = freshPrefix()
    const redis = yield* connect(url, { prefix })
    const [first, second] = yield* Effect.all([startShop(prefix), startShop(prefix)])
    yield* Effect.all([first.began(""), second.began("")], { concurrency: 2 })
    const carriedOut = (id: string) => Effect.map(redis.command("get", `${prefix}carried-out:${id}`), Number)
    return { first, second, carriedOut }
  })
}) {}

const [long, brief, briefest] = [60_000, 600, 300] as const

describe.skipIf(inject("redisUrl") === undefined)("idempotency among processes", () => {
  layer(Shops.Default, { excludeTestServices: true, timeout: 60_000 })((it) => {
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
        const winners = new Set<string>()
        for (const { answers, id } of orders) {
          expect(yield* carriedOut(id)).toBe(1)
          const done = answers.filter(({ isReplayed, status }) => status === 201 && !isReplayed)
          expect(done).toHaveLength(1)
          expect(answers.filter(({ isReplayed, status }) => status !== 201 && status !== 409 && !isReplayed)).toEqual(
            []
          )
          for (const { body } of done) winners.add(body)
        }
        expect(winners.size).toBe(2)
        // Each repeats what the other has done.
        for (const { answers, id } of orders.slice(0, 20)) {
          const done = answers.find(({ status }) => status === 201)
          for (const { order } of [first, second]) {
            expect(yield* order(long, id, 10)).toMatchObject({ status: 201, isReplayed: true, body: done?.body })
          }
          expect(yield* carriedOut(id)).toBe(1)
        }
      }))

    it.scoped("RS3: one that was stopped beyond its lease has no key any more: the other's response stays", () =>
      Effect.gen(function*() {
        const { carriedOut, first, second } = yield* Shops
        const began = yield* Effect.fork(first.began("stopped"))
        const late = yield* Effect.fork(first.order(briefest, "stopped", 200))
        yield* Fiber.join(began)
        first.kill("SIGSTOP")
        yield* Effect.sleep(Duration.millis(briefest + 50))
        const done = yield* second.order(briefest, "stopped", 200)
        expect(done.status).toBe(201)
        first.kill("SIGCONT")
        const answer = yield* Fiber.join(late)
        // Its client gets its own response, for its request was carried out; everybody else gets the one that is kept.
        expect(answer).toMatchObject({ status: 201, isReplayed: false })
        expect(answer.body).not.toBe(done.body)
        for (const { order } of [first, second]) {
          expect(yield* order(briefest, "stopped", 200)).toMatchObject({ isReplayed: true, body: done.body })
        }
        expect(yield* carriedOut("stopped")).toBe(2)
      }))

    // The last one: nobody starts it again.
    it.scoped("RS3: kill -9 of the process that carries it out frees the key after its lease, and no sooner", () =>
      Effect.gen(function*() {
        const { carriedOut, first, second } = yield* Shops
        const began = yield* Effect.fork(first.began("killed"))
        yield* Effect.fork(first.order(brief, "killed", 60_000))
        yield* Fiber.join(began)
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
        expect(freed.after).toBeLessThan(brief + scale(1000, 300))
      }))
  })
})
