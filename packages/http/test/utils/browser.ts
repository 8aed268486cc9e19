import { Effect } from "effect"
import type { Browser, BrowserContextOptions, Page } from "playwright-core"
import { chromium } from "playwright-core"

/** The browser of the machine. `scripts/provision.mjs` says where it is. */
export const executablePath = process.env["CHROMIUM_BINARY"]

const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

/** A headless browser for the length of the scope. */
export const openBrowser = Effect.acquireRelease(
  Effect.promise(() => chromium.launch({ ...(executablePath === undefined ? {} : { executablePath }), args })),
  (browser) => Effect.promise(() => browser.close())
)

/** What a page complained of and asked for, beside the page itself. */
export interface Watched {
  readonly page: Page
  readonly complaints: Array<string>
  readonly requests: Array<string>
}

/** A page that tells what it does. */
export const openPage = (browser: Browser, options: BrowserContextOptions = {}) =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Watched> => {
      const context = await browser.newContext(options)
      const page = await context.newPage()
      const complaints: Array<string> = []
      const requests: Array<string> = []
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) complaints.push(message.text())
      })
      page.on("pageerror", (error) => complaints.push(String(error)))
      page.on("request", (request) => requests.push(request.url()))
      return { page, complaints, requests }
    }),
    ({ page }) => Effect.promise(() => page.context().close())
  )
