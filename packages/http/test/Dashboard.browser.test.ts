import { Bulkhead, CircuitBreaker, ResilienceLive } from "@effect-resilience/core"
import { Admin, Dashboard } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import type { Page } from "playwright-core"
import { executablePath, openBrowser, openPage } from "./utils/browser.js"
import { fetchNode, serveNode } from "./utils/servers.js"

const live = Dashboard.layer({ title: "Shop", interval: "100 millis" }).pipe(
  Layer.provideMerge(Admin.Live),
  Layer.provideMerge(ResilienceLive)
)

/** A name that would be a script, if anybody took it for one. */
const hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

class DownError {
  readonly _tag = "DownError"
}

const textOf = (page: Page, selector: string) => Effect.promise(() => page.locator(selector).innerText())
/** Waits until a card says this. */
const cardSays = (page: Page, name: string, text: RegExp) =>
  Effect.promise(() =>
    page.locator(".card", { hasText: name }).filter({ hasText: text }).first().waitFor({ timeout: 10_000 })
  )
const colorOf = (page: Page) => Effect.promise(() => page.evaluate("getComputedStyle(document.body).backgroundColor"))

// One browser for all, as it takes the most of the time.
describe.skipIf(executablePath === undefined)("in a browser", () => {
  it.scopedLive("shows what is, changes with it, and asks for nothing from elsewhere", () =>
    Effect.gen(function*() {
      const breaker = yield* CircuitBreaker.make({ name: "payments", consecutiveFailures: 3, openDuration: "1 minute" })
      const bulkhead = yield* Bulkhead.make({ name: "reports", maxConcurrent: 2 })
      yield* CircuitBreaker.make({ name: hostile })
      // Behind a proxy that takes a part of the path away, the page knows no more of its path than the browser.
      const app = HttpRouter.empty.pipe(
        HttpRouter.mount("/inner/resilience", Dashboard.router),
        HttpRouter.mount("/admin", Admin.router({ authorize: Admin.loopbackOnly }))
      )
      const proxied = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
        request.url.startsWith("/outer/")
          ? Effect.provideService(
            app,
            HttpServerRequest.HttpServerRequest,
            request.modify({ url: request.url.replace("/outer/", "/inner/") })
          )
          : request.url === "/favicon.ico"
          ? HttpServerResponse.empty()
          : app)
      const { url } = yield* serveNode(proxied)
      const browser = yield* openBrowser
      const { complaints, page, requests } = yield* openPage(browser, { colorScheme: "light" })
      yield* Effect.promise(() => page.goto(`${url}/outer/resilience`))

      // It is there, and well.
      yield* cardSays(page, "payments", /closed/)
      expect(yield* textOf(page, "h1")).toBe("Shop")
      yield* Effect.promise(() => page.locator("#connection", { hasText: "live" }).waitFor())
      expect(yield* textOf(page, "#health .sentence")).toBe("All is well.")

      // A name is text, whatever it looks like.
      expect(yield* Effect.promise(() => page.locator("h3", { hasText: hostile }).count())).toBe(1)
      expect(yield* Effect.promise(() => page.locator(".card img, .card script").count())).toBe(0)
      expect(yield* Effect.promise(() => page.title())).toBe("Shop")

      // What happens comes to it.
      yield* Effect.repeatN(Effect.exit(breaker.withBreaker(Effect.fail(new DownError()))), 9)
      yield* cardSays(page, "payments", /open[\s\S]*DownError/)
      yield* Effect.promise(() => page.locator("#health .sentence", { hasText: "1 circuit is open." }).waitFor())
      yield* Effect.promise(() => page.locator("#timeline li", { hasText: "closed → open" }).waitFor())
      // The worst is first.
      expect(yield* textOf(page, ".card >> nth=0")).toContain("payments")

      // An operator's action has its flag and its line.
      yield* Effect.promise(() =>
        fetchNode(`${url}/admin/actions`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-resilience-admin": "1" },
          body: JSON.stringify({
            pattern: "Bulkhead",
            instance: "reports",
            action: "resize",
            input: 1,
            reason: "<b>too much</b>"
          })
        })
      )
      yield* cardSays(page, "reports", /Overridden until .* by this machine: <b>too much<\/b>/)
      yield* Effect.promise(() =>
        page.locator("#timeline li", { hasText: "this machine: resize 1, applied" }).waitFor()
      )
      yield* Effect.forkScoped(bulkhead.withPermit(Effect.never))
      yield* cardSays(page, "reports", /1 of 1/)

      // By the keyboard.
      yield* Effect.promise(() => page.keyboard.press("/"))
      yield* Effect.promise(() => page.keyboard.type("reports"))
      yield* Effect.promise(() => page.locator(".card", { hasText: "payments" }).waitFor({ state: "detached" }))
      yield* Effect.promise(() => page.keyboard.press("Escape"))
      yield* cardSays(page, "payments", /open/)
      yield* Effect.promise(() => page.keyboard.press("p"))
      yield* Effect.promise(() => page.locator("#connection", { hasText: "paused" }).waitFor())

      // Light and dark.
      const lightColor = yield* colorOf(page)
      yield* Effect.promise(() => page.emulateMedia({ colorScheme: "dark" }))
      expect(yield* colorOf(page)).not.toBe(lightColor)

      // Nothing else was asked for, and nothing complained.
      expect(complaints).toEqual([])
      const asked = requests.filter((request) => !request.startsWith("data:")).map((request) =>
        request.replace(url, "")
      )
      expect(asked).toEqual(["/outer/resilience", "/outer/resilience/events"])
      // Control: the page cannot do otherwise.
      const tried = yield* Effect.promise(() =>
        page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went', (error) => String(error))")
      )
      expect(tried).toContain("Failed to fetch")
      expect(complaints.join()).toContain("Content Security Policy")
    }).pipe(Effect.provide(live)), 30_000)
})
