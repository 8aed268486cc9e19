import { Priority, ResilienceLive } from "@effect-resilience/core"
import { HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { priorityOf } from "../src/internal/priority.js"
import { runtimes } from "./utils/servers.js"

const Live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))
const { levels } = Priority

/** What the handlers inside of a policy see, by the header that is sent. */
const seen =
  (policy: HttpResilience.Middleware) =>
  (where: keyof typeof runtimes, ambient: Priority.Level, headers: Record<string, string>, path = "/") =>
    Effect.gen(function*() {
      const router = HttpRouter.empty.pipe(
        HttpRouter.all("*", Effect.map(Priority, (level) => HttpServerResponse.text(level)))
      )
      const send = yield* runtimes[where](router.pipe(policy, Effect.provideService(Priority, ambient)))
      return (yield* send(path, { headers })).body
    }).pipe(Effect.scoped, Effect.provide(Live))

describe("the priority of a request", () => {
  for (const where of ["on Node", "on the web"] as const) {
    it.live(`a header may lower the ambient priority, and never raise it, ${where}`, () =>
      Effect.gen(function*() {
        const one = seen(HttpResilience.standard({ name: "by-header" }))
        for (const ambient of levels) {
          expect(yield* one(where, ambient, {})).toBe(ambient)
          for (const asked of levels) {
            const lower = Priority.rank(asked) < Priority.rank(ambient) ? asked : ambient
            expect(yield* one(where, ambient, { "x-priority": asked })).toBe(lower)
          }
        }
      }))

    it.live(`the handler has the priority by which it was admitted, ${where}`, () =>
      Effect.gen(function*() {
        const trusting = seen(
          HttpResilience.standard({ name: "trusting", priority: { trust: () => true, default: "normal" } })
        )
        expect(yield* trusting(where, "sheddable", { "x-priority": "normal" })).toBe("normal")
        expect(yield* trusting(where, "sheddable", {})).toBe("normal")
        expect(yield* trusting(where, "sheddable", {}, "/health")).toBe("sheddable")
      }))
  }

  it.live("a gateway is trusted by its address", () =>
    Effect.gen(function*() {
      const by = (trust: ReadonlyArray<string>) =>
        seen(HttpResilience.standard({ name: "by-address", priority: { trust } }))(
          "on Node",
          "normal",
          { "x-priority": "critical", "x-forwarded-for": "10.0.0.1" }
        )
      expect(yield* by(["10.0.0.0/8", "127.0.0.0/8"])).toBe("critical")
      // The gateway is the peer; nobody's word makes one of another.
      expect(yield* by(["10.0.0.0/8"])).toBe("normal")
    }))

  it("an address that is not known is nobody's whom one trusts", () => {
    const of = priorityOf("api", { trust: ["10.0.0.0/8", "fd00::/8"] })
    const from = (remoteAddress: string | undefined) =>
      of({
        method: "GET",
        path: "/",
        headers: { "x-priority": "high" },
        remoteAddress: Option.fromNullable(remoteAddress)
      }, "normal")
    expect(["10.1.2.3", "::ffff:10.1.2.3", "fd00::1"].map(from)).toEqual(["high", "high", "high"])
    expect(["11.1.2.3", "fe80::1", "10", "", undefined].map(from)).toEqual(Array.from({ length: 5 }, () => "normal"))
  })

  it("bad options are refused by name", () => {
    const wrong = (priority: object, message: string) =>
      expect(() => HttpResilience.standard({ name: "api", priority })).toThrow(
        `HttpResilience.priority "api": option ${message}`
      )
    wrong({ default: "urgent" }, `default must be one of "critical", "high"`)
    wrong({ header: "x priority" }, "header must be the name of a header field, but is \"x priority\"")
    wrong({ trust: [] }, "trust must be a function, or addresses and ranges like \"10.0.0.0/8\", but is []")
    wrong({ trust: ["10.0.0.0/33"] }, "trust must be a function, or addresses and ranges like \"10.0.0.0/8\"")
    wrong({ trust: "10.0.0.0/8" }, "trust must be")
  })
})
