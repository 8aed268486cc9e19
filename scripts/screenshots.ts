// The pictures of the documentation: a shop in trouble, seen in light and dark.
import { Effect, Layer } from "effect"
import { fileURLToPath } from "node:url"
import { openBrowser, openPage } from "../packages/http/test/utils/browser.js"
import { sceneApp, SceneLive } from "../packages/http/test/utils/scene.js"
import { serveNode } from "../packages/http/test/utils/servers.js"
import { smaller } from "./small-png.js"

const target = (name: string) => fileURLToPath(new URL(`../docs/images/${name}.png`, import.meta.url))

const shoot = Effect.gen(function*() {
  const { url } = yield* serveNode(sceneApp)
  const browser = yield* openBrowser
  const shots = yield* Effect.forEach(["light", "dark"] as const, (colorScheme) =>
    Effect.gen(function*() {
      const { complaints, page } = yield* openPage(browser, {
        colorScheme,
        viewport: { width: 1360, height: 1080 },
        deviceScaleFactor: 1
      })
      yield* Effect.promise(() => page.goto(`${url}/resilience`))
      return { colorScheme, page, complaints }
    }))
  yield* Effect.promise(() =>
    fetch(`${url}/admin/actions`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-resilience-admin": "1" },
      body: JSON.stringify({
        pattern: "Bulkhead",
        instance: "reports",
        action: "resize",
        input: 3,
        reason: "the database is slow",
        ttlSeconds: 600
      })
    })
  )
  yield* Effect.sleep(Number(process.argv[2] ?? 30_000))
  for (const { colorScheme, complaints, page } of shots) {
    yield* Effect.promise(async () => smaller(target(`dashboard-${colorScheme}`), await page.screenshot()))
    for (const complaint of complaints) yield* Effect.logError(complaint)
  }
})

Effect.runPromise(Effect.scoped(shoot.pipe(Effect.provide(Layer.fresh(SceneLive)))))
