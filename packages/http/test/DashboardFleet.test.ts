import { Bulkhead, CircuitBreaker, Fleet, RateLimiter, ResilienceLive, Retry } from "@effect-resilience/core"
import { Dashboard } from "@effect-resilience/http"
import { HttpRouter } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Option, Ref } from "effect"
import type { Page } from "playwright-core"
import { fleetWire } from "../src/internal/dashboard/fleet.js"
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
            metrics: { state: "ForcedOpen", failureRate: null }
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

  it.scopedLive("of many processes tells of all, and how many there are", () =>
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
        .toEqual(Array.from({ length: 30 }, (_, n) => `p${n}`))
    }))

  it("of more than it has room for tells of those in trouble, and how many there are", () => {
    const process = (n: number): Fleet.Process => ({
      id: `${n}`,
      label: `p${n}`,
      status: n === 90 ? "Late" : "Live",
      age: Duration.zero,
      omitted: 0,
      problem: Option.none(),
      instances: Array.from({ length: 100 }, (_, i) => ({
        pattern: "CircuitBreaker",
        instance: `host-${i}`,
        metrics: { state: n === 95 && i === 7 ? "Open" : "Closed", failureRate: 0, window: { calls: 9, failures: 0 } },
        settings: null
      }))
    })
    const wire = fleetWire({ problem: Option.none(), processes: Array.from({ length: 100 }, (_, n) => process(n)) })
    const { processes, ...rest } = wire as unknown as { readonly processes: ReadonlyArray<{ readonly label: string }> }
    expect(rest).toEqual({ problem: null, count: 100, late: 1, gone: 0 })
    expect(processes.map(({ label }) => label)).toEqual([
      "p0",
      "p90",
      "p95",
      ...Array.from({ length: 47 }, (_, n) => `p${n + 1}`)
    ])
    // Of each only what the page looks at.
    expect(JSON.stringify(wire).length / 5000).toBeLessThan(200)
  })

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

/** What a process says of an instance. */
const says = (page: Page, row: string, label: string, text: RegExp) =>
  Effect.promise(async () => {
    const cell = async () => {
      const labels = await page.locator("#fleet thead th:has(div) div:first-child").allInnerTexts()
      const cells = page.locator("#fleet tbody tr", { hasText: row }).locator("td:not(.all)")
      return labels.includes(label) ? (await cells.allInnerTexts())[labels.indexOf(label)] ?? "" : ""
    }
    await expect.poll(cell, { timeout: 10_000, message: `${row} of ${label}` }).toMatch(text)
  })

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

        yield* says(page, "payments", "shop-1", /closed/)
        yield* says(page, "reports", "shop-1", /0 of 4/)
        yield* says(page, "reports", "shop-2", /1 of 2/)
        yield* says(page, "clients", "shop-1", /–/)
        yield* says(page, "clients", "shop-2", /20/)
        yield* Effect.promise(() => page.locator("#fleet h2", { hasText: "Fleet: 3 processes" }).waitFor())

        // What happens to another comes here: the worst is first.
        yield* other.forceOpen()
        yield* says(page, "payments", "shop-2", /forced open/)
        yield* says(page, "payments", "shop-1", /closed/)
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
        yield* says(page, "payments", "shop-1", /closed/)

        expect(yield* Effect.promise(() => page.locator("#fleet img, #fleet b").count())).toBe(0)
        expect(yield* Effect.promise(() => page.title())).toBe("Shop")
        expect(complaints).toEqual([])
      }),
    30_000
  )

  it.scopedLive(
    "RE17: of many processes counts who says what, names the few that differ, and has the worst side by side",
    () =>
      Effect.gen(function*() {
        const { members, url } = yield* serve(...Array.from({ length: 30 }, (_, n) => `shop-${n}`))
        for (const [n, { within }] of members.entries()) {
          const payments = yield* within(CircuitBreaker.make({ name: "payments" }))
          if (n === 17 || n === 25) yield* payments.forceOpen()
          const stock = yield* within(CircuitBreaker.make({ name: "stock" }))
          if (n !== 11) yield* stock.forceOpen()
          yield* within(Bulkhead.make({ name: "reports", maxConcurrent: 4 }))
        }
        const { complaints, page } = yield* openPage(yield* openBrowser, { viewport: { width: 1360, height: 1080 } })
        yield* Effect.promise(() => page.goto(url))
        const texts = (selector: string) => Effect.promise(() => page.locator(selector).allInnerTexts())
        /** What all processes say of an instance. */
        const all = (row: string) =>
          Effect.map(texts(`#fleet tbody tr:has(button:text-is("${row}")) .all p`), (lines) =>
            lines.map((line) => line.replace(/\s+/g, " ")))
        const columns = Effect.map(texts("#fleet thead th:has(div) div:first-child"), (labels) =>
          labels.slice(0, 4))

        yield* says(page, "payments", "shop-17", /forced open/)
        expect(yield* all("payments")).toEqual(["2 forced open shop-17, shop-25", "28 closed"])
        expect(yield* all("stock")).toEqual(["29 forced open", "1 closed shop-11"])
        expect(yield* all("reports")).toEqual(["30 well"])
        expect(yield* columns).toEqual(["shop-0", "shop-17", "shop-25", "shop-1"])
        expect(yield* texts("#fleet thead th")).toHaveLength(2 + 12)
        yield* Effect.promise(() => page.locator("#fleet", { hasText: "18 more processes have no column" }).waitFor())

        // Whoever is not heard is named, and one that is gone takes no column.
        yield* Ref.set(members[28]!.status, { status: "Late", age: "4 seconds" })
        yield* Ref.set(members[17]!.status, { status: "Gone", age: "10 seconds" })
        yield* Effect.promise(() =>
          page.locator("#fleetUnheard", { hasText: "Late: shop-28 (heard 4 s ago). Gone: shop-17 (heard 10 s ago)." })
            .waitFor()
        )
        expect(yield* columns).toEqual(["shop-0", "shop-28", "shop-25", "shop-1"])
        expect(yield* all("payments")).toEqual(["1 forced open shop-25", "28 closed"])

        // A process is found by its name, an instance by its own.
        yield* Effect.promise(() => page.locator("input[type=search]").fill("shop-22 pay"))
        yield* Effect.promise(() => page.locator("#fleet tbody tr").first().filter({ hasText: "payments" }).waitFor())
        expect(yield* columns).toEqual(["shop-0", "shop-22", "shop-28", "shop-25"])
        expect(yield* texts("#fleet tbody tr")).toHaveLength(1)

        // The counts stay where the columns are scrolled.
        const left = () => page.locator("#fleet tbody .all").evaluate((cell) => cell.getBoundingClientRect().left)
        const before = yield* Effect.promise(left)
        yield* Effect.promise(() => page.locator(".fleet").evaluate((frame) => frame.scrollTo(600, 0)))
        expect(yield* Effect.promise(() => page.locator(".fleet").evaluate((frame) => frame.scrollLeft)))
          .toBeGreaterThan(300)
        expect(Math.abs((yield* Effect.promise(left)) - before)).toBeLessThan(2)
        expect(complaints).toEqual([])
      }),
    30_000
  )
})
