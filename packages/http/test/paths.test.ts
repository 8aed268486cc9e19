import { ResilienceLive } from "@effect-resilience/core"
import { Drain, HttpResilience } from "@effect-resilience/http"
import { HttpRouter, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Layer, Option } from "effect"
import { pathMatcher, pathOf } from "../src/internal/paths.js"
import { runtimes } from "./utils/servers.js"

type Row = readonly [pattern: string, matches: ReadonlyArray<string>, others: ReadonlyArray<string>]

const rows: ReadonlyArray<Row> = [
  ["/health", ["/health", "/health/"], ["/", "/healthy", "/health/db", "/a/health", "/Health", "/%68ealth"]],
  ["/health/**", ["/health", "/health/", "/health/db", "/health/db/deep"], ["/healthy", "/healthy/db", "/a/health"]],
  ["/*", ["/a", "/a/"], ["/", "/a/b"]],
  ["/a/*/c", ["/a/b/c", "/a/b/c/"], ["/a/c", "/a//c", "/a/b/b/c", "/a/b/d"]],
  ["/*.ico", ["/favicon.ico", "/.ico"], ["/favicon-ico", "/a/favicon.ico"]],
  ["/v1.*", ["/v1.2", "/v1.", "/v1.2/"], ["/v1", "/v1x2", "/v1.2/a"]],
  ["/v*.*/x", ["/v1.2/x"], ["/v1/x"]],
  ["/a/**/c", ["/a/c", "/a/b/c", "/a/x/y/c", "/a/x/y/c/"], ["/a", "/c", "/ac", "/a/b/cc", "/a/b", "/b/a/c"]],
  ["/**/health", ["/health", "/a/health", "/a/b/health"], ["/", "/a/healthy", "/a/health/b"]],
  ["**", ["/", "/a", "/a/b"], []],
  ["/**", ["/", "/a", "/a/b"], []],
  ["/a+(b)[c]{1}$^|", ["/a+(b)[c]{1}$^|"], ["/aab"]],
  ["/", ["/"], ["/a", "//a"]]
]

const live = HttpResilience.Live.pipe(Layer.provideMerge(ResilienceLive))

describe("patterns of paths", () => {
  it.each(rows)("%s", (pattern, matches, others) => {
    const is = pathMatcher([pattern])
    expect(matches.filter((path) => !is(path))).toEqual([])
    expect(others.filter(is)).toEqual([])
  })

  it("** is any number of whole segments", () => {
    const segment = fc.stringOf(fc.constantFrom("a", "b", ".", "*"), { minLength: 1, maxLength: 3 })
    fc.assert(fc.property(fc.array(segment, { maxLength: 5 }), fc.array(segment, { maxLength: 2 }), (between, more) => {
      const path = ["/x", ...between, "y"].join("/")
      expect(pathMatcher(["/x/**/y"])(path)).toBe(true)
      expect(pathMatcher(["/x/**"])([path, ...more].join("/"))).toBe(true)
      expect(pathMatcher(["/x/**/y"])(`${path}z`)).toBe(false)
    }))
  })

  it("as an expression says it that takes as long as it likes", () => {
    const segmentOf = (segment: string) => {
      if (segment === "**") return "(?:/[^/]*)*"
      return segment === "*" ? "/[^/]+" : `/${segment.replace(/[.]/g, "\\.").replace(/\*+/g, "[^/]*")}`
    }
    const expression = (pattern: string) =>
      new RegExp(`^${pattern.replace(/^\//, "").split("/").map(segmentOf).join("")}/?$`)
    const segment = fc.oneof(
      fc.constantFrom("**", "*"),
      fc.stringOf(fc.constantFrom("a", "b", ".", "*"), { maxLength: 4 })
    )
    const pattern = fc.array(segment, { minLength: 1, maxLength: 5 }).map((segments) => `/${segments.join("/")}`)
    const text = fc.stringOf(fc.constantFrom("a", "b", ".", "/"), { maxLength: 10 }).map((text) => `/${text}`)
    fc.assert(
      fc.property(pattern, text, (pattern, path) => {
        expect(pathMatcher([pattern])(path), `${pattern} ${path}`).toBe(expression(pattern).test(path))
      }),
      { numRuns: 5000 }
    )
  })

  it.each([
    ["/**/b/**/c", `${"/b".repeat(40_000)}/x`],
    ["/**/**/**/c", `${"/b".repeat(40_000)}/x`],
    ["/*b*b*c", `/${"b".repeat(80_000)}x`]
  ])("%s takes no longer than the path is long", (pattern, path) => {
    const start = performance.now()
    expect(pathMatcher([pattern])(path)).toBe(false)
    // To try all places for all stars takes many seconds.
    expect(performance.now() - start).toBeLessThan(500)
  })

  it("one that can match no path is refused", () => {
    const message = "option exclude must be a list of paths, each from / on, or **, but is"
    for (const exclude of [["health"], ["/a", ""], ["*"], [5], "/health"]) {
      const options: object = { name: "api", exclude }
      expect(() => HttpResilience.standard(options as HttpResilience.Options)).toThrow(
        `HttpResilience "api": ${message}`
      )
      expect(() => Effect.runSync(Effect.scoped(Layer.build(Drain.layer(options as Drain.Options))))).toThrow(message)
    }
  })
})

describe("what is excluded is said by the path that the client sent", () => {
  it("whatever form the target has", () => {
    const path = (originalUrl: string) => pathOf({ originalUrl })
    expect(["/a?b", "/a#b", "http://h/a?b", "https://h:1", ""].map(path)).toEqual(["/a", "/a", "/a", "/", "/"])
  })

  for (const [where, serve] of Object.entries(runtimes)) {
    it.scopedLive(`where a router is mounted, ${where}`, () =>
      Effect.gen(function*() {
        const limit = (name: string, exclude?: ReadonlyArray<string>) =>
          HttpResilience.rateLimit({ name, exclude, rate: "1/hour", key: () => Option.some("anybody") })
        const router = HttpRouter.empty.pipe(HttpRouter.get("/health", HttpServerResponse.text("ok")))
        const send = yield* serve(HttpRouter.empty.pipe(
          HttpRouter.mountApp("/patients", router.pipe(limit("patients"))),
          HttpRouter.mountApp("/ops", router.pipe(limit("ops", ["/ops/health"])))
        ))
        const statuses = (path: string) =>
          Effect.forEach([1, 2], () => Effect.map(send(path, { method: "GET" }), ({ status }) => status))
        expect(yield* statuses("/patients/health")).toEqual([200, 429])
        expect(yield* statuses("/ops/health")).toEqual([200, 200])
      }).pipe(Effect.provide(live)))
  }
})
