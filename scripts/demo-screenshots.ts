// The pictures of the demo in the documentation: what the dashboard shows while each phase lasts.
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { fullScript } from "../examples/src/demo/script.js"
import { openBrowser, openPage } from "../packages/http/test/utils/browser.js"
import { smaller } from "./small-png.js"

const root = fileURLToPath(new URL("..", import.meta.url))
const target = (name: string) => `${root}docs/images/demo-${name}.png`

/** Seconds after its beginning at which a phase shows best what it is about; before its end, where nothing is said. */
const tellingMoments: Readonly<Record<string, number>> = { refusing: 3, hanging: 6 }

/** Each phase: the name of its picture, and when it is taken. The second time of a mode is the one after the fall. */
const shots = fullScript.map(({ mode, name, seconds }, i) => ({
  phase: name,
  picture: fullScript.findIndex((other) => other.mode === mode) === i ? mode : `${mode}-again`,
  after: 1000 * (tellingMoments[mode] ?? seconds - 1.2)
}))

/** The demo as it is run by hand, line by line. */
const startDemo = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(
        process.execPath,
        ["--conditions=@effect-resilience/source", "--import", "tsx", "examples/src/demo/main.ts"],
        { cwd: root, stdio: ["ignore", "ignore", "pipe"] }
      )
    ),
    (demo) => Effect.sync(() => demo.kill())
  ),
  ({ stderr }) => createInterface({ input: stderr })[Symbol.asyncIterator]()
)

/** The rest of the next line that begins so. */
const lineAfter = (lines: AsyncIterator<string>, start: string) =>
  Effect.promise(async () => {
    for (;;) {
      const { done, value } = await lines.next()
      if (done === true) throw new Error(`The demo ended, and never said "${start}"`)
      if (value.startsWith(start)) return value.slice(start.length).trim()
    }
  })

// Wide enough for three cards beside each other.
const look = { viewport: { width: 1360, height: 1060 }, deviceScaleFactor: 1 } as const

const shootDemo = Effect.gen(function*() {
  const browser = yield* openBrowser
  const lines = yield* startDemo
  const url = yield* lineAfter(lines, "Watch the protected side live at ")
  const light = yield* openPage(browser, { ...look, colorScheme: "light" })
  const dark = yield* openPage(browser, { ...look, colorScheme: "dark" })
  yield* Effect.promise(() => Promise.all([light, dark].map(({ page }) => page.goto(url))))
  const shoot = (page: typeof light.page, name: string) =>
    Effect.promise(async () => smaller(target(name), await page.screenshot()))
  for (const { after, phase, picture } of shots) {
    yield* lineAfter(lines, `--- the dependency: ${phase}`)
    yield* Effect.sleep(after)
    yield* shoot(light.page, picture)
    if (picture === "hanging") yield* shoot(dark.page, `${picture}-dark`)
  }
  for (const complaint of [...light.complaints, ...dark.complaints]) yield* Effect.logError(complaint)
})

Effect.runPromise(Effect.scoped(shootDemo))
