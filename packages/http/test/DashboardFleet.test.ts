import { Bulkhead, CircuitBreaker, Fleet, RateLimiter, ResilienceLive, Retry } from "@effect-resilience/core"
import { Dashboard } from "@effect-resilience/http"
import { HttpRouter } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Ref } from "effect"
import type { Page } from "playwright-core"
import { executablePath, openBrowser, openPage } from "./utils/browser.js"
import { eventually, openViewer } from "./utils/events.js"
import { openFleet } from "./utils/fleet.js"
import { serveNode } from "./utils/servers.js"

const mounted = HttpRouter.mount(HttpRouter.empty, "/resilience", Dashboard.router)
const dashboard = Dashboard.layer({ title: "Shop", interval: "100 millis" })

const serve = (...labels: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const { live, members, problem } = yield* openFleet(...labels)
    const context = yield* Layer.build(Layer.provide(dashboard, live))
    const { url } = yield* Effect.provide(serveNode(mounted), context)
    return { url: `${url}/resilience`, members, problem }
  })

/** A name that would be a script, if anybody took it for one. */
const hostile = "<img src=x onerror=\"document.title='owned'\">"

describe("the fleet on the dashboard", () => {
  it.scopedLive("is told with its instances, who is late, and what happens elsewhere", () =>
    Effect.gen(function*() {
      const { members, problem, url } = yield* serve("one", "two")
      const [one, two] = members
      if (one === undefined || two === undefined) return yield* Effect.dieMessage("there are two")
      const own = yield* one.within(CircuitBreaker.make({ name: "payments" }))
      const other = yield* two.within(CircuitBreaker.make({ name: "payments" }))
      yield* other.forceOpen()
      const viewer = yield* openViewer(`${url}/events`)
      /** The last that was told of the fleet. */
      const fleet = () => viewer.told().map(({ data }) => data.fleet).filter((fleet) => fleet !== undefined).at(-1)
      const processes = yield* eventually(() => fleet()?.processes)
      expect(processes).toMatchObject([
        { label: "one", status: "Live", heardAgo: null, instances: [{ id: "CircuitBreaker/payments" }] },
        {
          label: "two",
          status: "Live",
          instances: [{
            pattern: "CircuitBreaker",
            instance: "payments",
            metrics: { state: "ForcedOpen", openFor: null }
          }]
        }
      ])

      // Own events once, by the bus; those of the other with its name.
      yield* other.reset
      yield* own.disable
      const lines = () => viewer.told().flatMap(({ data }) => data.timeline ?? [])
      yield* eventually(() =>
        lines().some(({ detail, process }) => process === "two" && detail.to === "Closed") &&
        lines().some(({ detail, process }) => process === undefined && detail.to === "Disabled")
      )
      expect(lines().filter(({ detail }) => detail.to === "Disabled")).toHaveLength(1)

      yield* Ref.set(two.status, { status: "Late", age: "4 seconds" })
      yield* eventually(() => fleet().processes[1].status === "Late" && fleet().processes[1].heardAgo === 4000)
      yield* Ref.set(problem, Option.some("The other processes are not seen: Redis is down"))
      yield* eventually(() => fleet().problem === "The other processes are not seen: Redis is down")
      expect(fleet().processes.map(({ label }: { label: string }) => label)).toEqual(["one"])
    }))

  it.scopedLive("what other processes do is no part of the figures of this one", () =>
    Effect.gen(function*() {
      const { members, url } = yield* serve("one", "two")
      const [one, two] = members
      if (one === undefined || two === undefined) return yield* Effect.dieMessage("there are two")
      yield* one.within(CircuitBreaker.make({ name: "payments" }))
      const other = yield* two.within(CircuitBreaker.make({ name: "payments", consecutiveFailures: 2 }))
      const viewer = yield* openViewer(`${url}/events`)
      yield* eventually(() => viewer.told().some(({ data }) => data.fleet?.processes?.length === 2))
      yield* Effect.repeatN(Effect.exit(other.withBreaker(Effect.fail("down"))), 5)
      yield* eventually(() =>
        viewer.told().flatMap(({ data }) => data.timeline ?? []).some(({ process, tag }) =>
          process === "two" && tag === "StateChanged"
        )
      )
      const told = viewer.told().flatMap(({ data }) => data.instances ?? data.changed ?? [])
      expect(told.filter(({ recent }) => recent.calls !== undefined)).toEqual([])
    }))

  it.scopedLive("of many processes tells how many there are, and all of those that the page shows", () =>
    Effect.gen(function*() {
      const { members, url } = yield* serve(...Array.from({ length: 30 }, (_, n) => `p${n}`))
      yield* Effect.forEach(
        members,
        ({ status }, n) => Ref.set(status, { status: n < 20 ? "Live" : n < 25 ? "Late" : "Gone", age: 0 })
      )
      const viewer = yield* openViewer(`${url}/events`)
      const fleet = yield* eventually(() =>
        viewer.told().map(({ data }) => data.fleet).find((fleet) => fleet?.processes)
      )
      expect(fleet).toMatchObject({ count: 30, late: 5, gone: 5 })
      expect(fleet.processes.map(({ label }: { label: string }) => label))
        .toEqual(Array.from({ length: 12 }, (_, n) => `p${n}`))
    }))

  it.scopedLive("is looked at again after a look that failed", () =>
    Effect.gen(function*() {
      const { live } = yield* openFleet("one", "two")
      const looks = yield* Ref.make(0)
      const failing = Layer.map(live, (context) => {
        const fleet = Context.get(context, Fleet)
        const view = Effect.flatMap(
          Ref.getAndUpdate(looks, (n) => n + 1),
          (before) => before === 0 ? Effect.die("the first look fails") : fleet.view
        )
        return Context.add(context, Fleet, { ...fleet, view })
      })
      const context = yield* Layer.build(Layer.provide(dashboard, failing))
      const { url } = yield* Effect.provide(serveNode(mounted), context)
      const viewer = yield* openViewer(`${url}/resilience/events`)
      yield* eventually(() => viewer.told().some(({ data }) => data.fleet?.count === 2))
      expect(yield* looks).toBeGreaterThan(1)
    }))

  it.scopedLive("is not told where there is none", () =>
    Effect.gen(function*() {
      const { url } = yield* serveNode(mounted)
      const viewer = yield* openViewer(`${url}/resilience/events`)
      const first = yield* eventually(() => viewer.told()[0])
      expect(first.data.fleet).toBe(null)
    }).pipe(Effect.provide(Layer.provide(dashboard, ResilienceLive))))
})

const cell = (page: Page, row: string, column: number) =>
  page.locator("#fleet tbody tr", { hasText: row }).locator("td").nth(column)
const says = (page: Page, row: string, column: number, text: RegExp) =>
  Effect.promise(() => cell(page, row, column).filter({ hasText: text }).waitFor({ timeout: 10_000 }))

describe.skipIf(executablePath === undefined)("the fleet in a browser", () => {
  it.scopedLive(
    "stands side by side, tells who is late or gone, and takes nothing for a script",
    () =>
      Effect.gen(function*() {
        const { members, problem, url } = yield* serve("shop-1", "shop-2", hostile)
        const [one, two, three] = members
        if (one === undefined || two === undefined || three === undefined) {
          return yield* Effect.dieMessage("there are three")
        }
        yield* one.within(CircuitBreaker.make({ name: "payments" }))
        const other = yield* two.within(CircuitBreaker.make({ name: "payments" }))
        yield* three.within(CircuitBreaker.make({ name: "payments" }))
        yield* one.within(Bulkhead.make({ name: "reports", maxConcurrent: 4 }))
        const reports = yield* two.within(Bulkhead.make({ name: "reports", maxConcurrent: 2 }))
        yield* three.within(Retry.make({ name: hostile }))
        yield* two.within(RateLimiter.make({ name: "clients", rate: "20/s" }))
        yield* Effect.forkScoped(reports.withPermit(Effect.never))
        const { complaints, page } = yield* openPage(yield* openBrowser, {
          colorScheme: "light",
          viewport: { width: 1360, height: 1080 }
        })
        yield* Effect.promise(() => page.goto(url))

        yield* says(page, "payments", 0, /closed/)
        yield* says(page, "reports", 0, /0 of 4/)
        yield* says(page, "reports", 1, /1 of 2/)
        yield* says(page, "clients", 0, /–/)
        yield* says(page, "clients", 1, /20/)
        yield* Effect.promise(() => page.locator("#fleet h2", { hasText: "Fleet: 3 processes" }).waitFor())

        // What happens to another comes here: the worst is first.
        yield* other.forceOpen()
        yield* says(page, "payments", 1, /forced open/)
        yield* says(page, "payments", 0, /closed/)
        const worst = page.locator("#fleet tbody tr").first()
        yield* Effect.promise(() => worst.filter({ hasText: "payments" }).waitFor())
        yield* Effect.promise(() =>
          page.locator("#timeline li", { hasText: "closed → forced open" }).filter({ hasText: "of shop-2" }).waitFor()
        )

        yield* Ref.set(two.status, { status: "Late", age: "4 seconds" })
        yield* Effect.promise(() => page.locator("#fleet th", { hasText: "late, heard 4 s ago" }).waitFor())
        yield* Ref.set(three.status, { status: "Gone", age: "10 seconds" })
        yield* Effect.promise(() => page.locator("#fleet h2", { hasText: "3 processes, 1 late, 1 gone" }).waitFor())
        // It is said on top, where nobody has to look for it.
        yield* Effect.promise(() =>
          page.locator("#health button", { hasText: "Fleet: 3 processes, 1 late, 1 gone, 1 instance in trouble" })
            .waitFor()
        )
        const picture = process.env["FLEET_PICTURE"]
        if (picture !== undefined) yield* Effect.promise(() => page.screenshot({ path: picture, fullPage: true }))

        // Where Redis is down, this process is there, and why no other is.
        yield* Ref.set(problem, Option.some("The other processes are not seen: <b>Redis is down</b>"))
        yield* Effect.promise(() => page.locator("#fleetNotice", { hasText: "<b>Redis is down</b>" }).waitFor())
        yield* Effect.promise(() => page.locator("#fleet h2", { hasText: "1 process" }).waitFor())
        yield* Effect.promise(() =>
          page.locator("#health button", { hasText: "The other processes are not seen" }).waitFor()
        )
        yield* says(page, "payments", 0, /closed/)

        expect(yield* Effect.promise(() => page.locator("#fleet img, #fleet b").count())).toBe(0)
        expect(yield* Effect.promise(() => page.title())).toBe("Shop")
        expect(complaints).toEqual([])
      }),
    30_000
  )
})
