// The picture of a fleet for the documentation: three shops in trouble, one of which has not been heard for a while.
import { Effect, Ref } from "effect"
import { fileURLToPath } from "node:url"
import { openBrowser, openPage } from "../packages/http/test/utils/browser.js"
import { openSceneFleet } from "../packages/http/test/utils/scene.js"
import { smaller } from "./small-png.js"

const target = fileURLToPath(new URL("../docs/images/dashboard-fleet.png", import.meta.url))

const shoot = Effect.gen(function*() {
  const { members, url } = yield* openSceneFleet("shop-03aa", "shop-7f9c", "shop-b21e")
  const viewport = { width: 1360, height: 1080 }
  const { page } = yield* openPage(yield* openBrowser, { colorScheme: "light", viewport })
  yield* Effect.promise(() => page.goto(`${url}/resilience`))
  yield* Effect.sleep(Number(process.argv[2] ?? 15_000))
  for (const { status } of members.slice(-1)) yield* Ref.set(status, { status: "Late", age: "4 seconds" })
  yield* Effect.sleep("3 seconds")
  yield* Effect.promise(async () => smaller(target, await page.locator("#fleet").screenshot()))
})

Effect.runPromise(Effect.scoped(shoot))
