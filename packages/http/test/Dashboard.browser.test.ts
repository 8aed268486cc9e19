import {
  Bulkhead,
  CircuitBreaker,
  RateLimiter,
  RateLimiterStore,
  Registry,
  ResilienceLive
} from "@effect-resilience/core"
import { Admin, Dashboard } from "@effect-resilience/http"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted, Ref, Schedule } from "effect"
import type { Page } from "playwright-core"
import { executablePath, openBrowser, openPage } from "./utils/browser.js"
import { fetchNode, serveNode } from "./utils/servers.js"

const live = Dashboard.layer({ title: "Shop", interval: "100 millis" }).pipe(
  Layer.provideMerge(Admin.Live),
  Layer.provideMerge(ResilienceLive)
)

/** A name that would be a script, if anybody took it for one. */
const hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

class Hosts extends CircuitBreaker.Keyed<Hosts>()("hosts", { consecutiveFailures: 1 }) {}

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
      // It knows of no admin, and so shows no action.
      expect(yield* Effect.promise(() => page.locator(".act").first().isHidden())).toBe(true)
      // Control: the page cannot do otherwise.
      const tried = yield* Effect.promise(() =>
        page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went', (error) => String(error))")
      )
      expect(tried).toContain("Failed to fetch")
      expect(complaints.join()).toContain("Content Security Policy")
    }).pipe(Effect.provide(live)), 30_000)

  it.scopedLive("says that it connects, and nothing of how things are, until it is told", () =>
    Effect.gen(function*() {
      const [asked, answered] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const app = HttpRouter.mount(HttpRouter.empty, "/resilience", Dashboard.router)
      const slow = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ url }) =>
        url.endsWith("/events")
          ? Deferred.succeed(asked, undefined).pipe(Effect.zipRight(Deferred.await(answered)), Effect.zipRight(app))
          : app)
      const { url } = yield* serveNode(slow)
      const { complaints, page } = yield* openPage(yield* openBrowser, { colorScheme: "light" })
      const colour = Effect.promise(() =>
        page.evaluate("getComputedStyle(document.getElementById('health')).backgroundColor")
      )
      yield* Effect.promise(() => page.goto(`${url}/resilience`))
      yield* Deferred.await(asked)
      // It is drawn once a second.
      yield* Effect.promise(() => page.waitForTimeout(1200))
      expect(yield* textOf(page, "#health")).toBe("Connecting…")
      expect(yield* textOf(page, "body")).not.toMatch(/NaN|No instance|Nothing has happened/)
      const neutral = yield* colour
      yield* Deferred.succeed(answered, undefined)
      yield* Effect.promise(() => page.locator("#health .sentence", { hasText: "All is well." }).waitFor())
      expect(yield* colour).not.toBe(neutral)
      expect(yield* textOf(page, ".app")).toMatch(/^up for /)
      expect(complaints).toEqual([])
    }).pipe(Effect.provide(live)), 30_000)

  it.scopedLive(
    "has a Redis that is down in red and first: in the sentence, on the cards, and in its events when it is back",
    () =>
      Effect.gen(function*() {
        const state = yield* Ref.make("down")
        yield* Effect.flatMap(Registry, ({ register }) =>
          register({
            pattern: "RedisConnection",
            instance: "redis",
            site: "here",
            snapshot: Effect.map(
              state,
              (state) =>
                state === "up" ? { state, down: [] } : { state, down: [""], downFor: 5000, reason: "Disconnected" }
            ),
            actions: {}
          }))
        yield* Effect.flatMap(
          CircuitBreaker.make({ name: "payments" }),
          (breaker) => breaker.forceOpen()
        )
        const { url } = yield* serveNode(HttpRouter.mount(HttpRouter.empty, "/resilience", Dashboard.router))
        const { complaints, page } = yield* openPage(yield* openBrowser, { colorScheme: "light" })
        yield* Effect.promise(() => page.goto(`${url}/resilience`))
        const sentence = (text: RegExp) =>
          Effect.promise(() => page.locator("#health .sentence", { hasText: text }).waitFor())
        yield* sentence(/^Redis is down since \d\d:\d\d:\d\d \(disconnected\) and 1 circuit is open\.$/)
        expect(yield* textOf(page, ".card.level3 >> nth=0")).toMatch(/^redis\s+redis connection\s+down\s+down for\s+5/)
        yield* Ref.set(state, "up")
        yield* sentence(/^1 circuit is open\.$/)
        yield* Effect.promise(() => page.locator("#timeline li", { hasText: /down → up \(after [\d.]+ s\)/ }).waitFor())
        expect(complaints).toEqual([])
      }).pipe(Effect.provide(live)),
    30_000
  )

  it.scopedLive("says nothing of what it has not seen", () =>
    Effect.gen(function*() {
      const store = yield* RateLimiterStore.makeMemory()
      const limiter = yield* RateLimiter.make({ name: "clients", rate: "2/hour", store })
      const call = Effect.exit(limiter.withLimit(Effect.void))
      yield* Effect.repeatN(call, 4)
      for (let n = 0; n < 3; n++) yield* Effect.exit(Hosts.withBreakerBy({ key: "a.test" })(Effect.fail("down")))
      const { url } = yield* serveNode(HttpRouter.mount(HttpRouter.empty, "/resilience", Dashboard.router))
      const { page } = yield* openPage(yield* openBrowser, { colorScheme: "light" })
      yield* Effect.promise(() => page.goto(`${url}/resilience`))
      yield* cardSays(page, "clients", /let through\s*–/)
      yield* cardSays(page, "clients", /turned away\s*3 of 5 in all/)
      yield* cardSays(page, "hosts", /turned away\s*2 of 3 in all/)
      expect(yield* textOf(page, ".cards")).not.toContain("∞")
      expect(yield* textOf(page, "#timeline")).toContain("Nothing has happened since this page was opened.")
      // From here on it has seen it.
      yield* Effect.forkScoped(Effect.repeat(call, Schedule.spaced("100 millis")))
      yield* cardSays(page, "clients", /let through\s*0 %/)
    }).pipe(Effect.provide(Hosts.Live), Effect.provide(live)), 30_000)

  const acting = (authorize: Admin.Authorize<never>) =>
    Effect.gen(function*() {
      yield* CircuitBreaker.make({ name: "payments" })
      const bulkhead = yield* Bulkhead.make({ name: "reports", maxConcurrent: 2 })
      const { url } = yield* serveNode(HttpRouter.empty.pipe(
        HttpRouter.mount("/ops/resilience", Dashboard.router),
        HttpRouter.mount("/ops/admin", Admin.router({ authorize }))
      ))
      const { complaints, page, requests } = yield* openPage(yield* openBrowser, { colorScheme: "light" })
      yield* Effect.promise(() => page.goto(`${url}/ops/resilience`))
      yield* cardSays(page, "reports", /well/)
      const card = page.locator(".card", { hasText: "reports" })
      const limit = Effect.map(bulkhead.metrics, ({ limit }) => limit)
      const act = (input: string, reason: string) =>
        Effect.promise(async () => {
          await card.getByLabel("Input").fill(input)
          await card.getByLabel("Reason").pressSequentially(reason)
          await card.getByRole("button", { name: "Do it" }).click()
        })
      const answered = (text: RegExp) =>
        Effect.promise(() => card.locator(".result", { hasText: text }).waitFor({ timeout: 10_000 }))
      return { url, page, card, act, answered, limit, complaints, requests }
    })
  const withAdmin = (admin: string) =>
    Dashboard.layer({ title: "Shop", interval: "100 millis", admin }).pipe(
      Layer.provideMerge(Admin.Live),
      Layer.provideMerge(ResilienceLive)
    )

  it.scopedLive(
    "lets those act whom the admin lets, says what came of it, and for how long it lasts",
    () =>
      Effect.gen(function*() {
        const { act, answered, card, complaints, limit, page, requests, url } = yield* acting(Admin.loopbackOnly)
        yield* Effect.promise(() => card.locator("summary", { hasText: "Act" }).click())

        // A reason with the keys of the page in it, and with what would be a script.
        yield* act("1", "p/<b>slow</b>")
        yield* answered(/^Done, until \d\d:\d\d:\d\d\.$/)
        expect(yield* limit).toBe(1)
        yield* Effect.promise(() => page.locator("#connection", { hasText: "live" }).waitFor())
        const row = page.locator("#overrides li", {
          hasText: "Bulkhead reports resize 1 by this machine: p/<b>slow</b>"
        })
        yield* Effect.promise(() => row.locator("text=/(10|9.\\d) min left/").waitFor())
        expect(yield* Effect.promise(() => page.locator("#overrides b").count())).toBe(0)

        // What the instance does not take is said, and changes nothing.
        yield* act("0", "no")
        yield* answered(/the new limit|at least 1/)
        expect(yield* limit).toBe(1)

        // It can be ended before its time.
        yield* Effect.promise(() => row.getByRole("button", { name: "End now" }).click())
        yield* Effect.promise(() => row.waitFor({ state: "detached" }))
        expect(yield* limit).toBe(2)

        // Its own origin was asked, and nothing complained but of the order that was refused.
        expect(complaints.filter((complaint) => !complaint.includes("status of 422"))).toEqual([])
        expect(
          new Set(requests.filter((request) => !request.startsWith("data:")).map((request) => request.replace(url, "")))
        )
          .toEqual(
            new Set([
              "/ops/resilience",
              "/ops/resilience/events",
              "/ops/admin/state",
              "/ops/admin/actions",
              "/ops/admin/returns"
            ])
          )
      }).pipe(Effect.provide(withAdmin("../admin"))),
    30_000
  )

  it.scopedLive("asks for the token where the admin wants one, and shows nothing before", () =>
    Effect.gen(function*() {
      const token = "a-long-enough-token"
      const { card, page } = yield* acting(Admin.bearer(Redacted.make(token)))
      const unlock = (text: string) =>
        Effect.promise(async () => {
          await page.getByLabel("Admin token").fill(text)
          await page.getByRole("button", { name: "Unlock actions" }).click()
        })
      const isHidden = Effect.promise(() => card.locator("summary", { hasText: "Act" }).isHidden())
      yield* Effect.promise(() => page.locator("#door").waitFor())
      expect(yield* isHidden).toBe(true)
      const refused = page.waitForResponse((response) => response.status() === 401)
      yield* unlock("another-token-than-it")
      yield* Effect.promise(() => refused)
      expect(yield* isHidden).toBe(true)
      yield* unlock(token)
      yield* Effect.promise(() => card.locator("summary", { hasText: "Act" }).waitFor())
      yield* Effect.promise(() => page.locator("#door").waitFor({ state: "hidden" }))
    }).pipe(Effect.provide(withAdmin("/ops/admin"))), 30_000)

  it.scopedLive("shows no action where no admin answers", () =>
    Effect.gen(function*() {
      const { card, page } = yield* acting(Admin.loopbackOnly)
      const asked = page.waitForResponse((response) => response.url().endsWith("/nowhere/state"))
      yield* Effect.promise(() => page.reload())
      expect((yield* Effect.promise(() => asked)).status()).toBe(404)
      yield* cardSays(page, "reports", /well/)
      expect(yield* Effect.promise(() => card.locator("summary", { hasText: "Act" }).isHidden())).toBe(true)
      expect(yield* Effect.promise(() => page.locator("#door").isHidden())).toBe(true)
    }).pipe(Effect.provide(withAdmin("/nowhere"))), 30_000)
})
