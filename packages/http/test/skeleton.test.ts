import * as http from "@effect-resilience/http"
import { expect, it } from "@effect/vitest"

it("the package can be imported and promises nothing yet", () => {
  expect(Object.keys(http)).toEqual([])
})
