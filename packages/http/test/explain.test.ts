import { HttpResilience } from "@effect-resilience/http"
import { describe, expect, it } from "@effect/vitest"

const lineOf = (title: string, options: Omit<HttpResilience.Options, "name">) =>
  HttpResilience.explain({ name: "api", ...options }).split("\n").find((line) => line.includes(` ${title} `))

describe("explain", () => {
  it("tells of a limit of time that is in a dry run", () => {
    expect(lineOf("timeout", { timeout: { duration: "1 second", dryRun: true } })).toMatch(
      /1s until the headers: 504 \(dryRun true\)$/
    )
    expect(lineOf("deadline", { deadline: { headers: ["x-time"], dryRun: true } })).toMatch(
      /what the caller says: x-time \(dryRun true\)$/
    )
    expect(lineOf("timeout", { timeout: "1 second" })).toMatch(/1s until the headers: 504$/)
  })

  it("tells who may raise a priority", () => {
    expect(lineOf("priority", {})).toMatch(/what the caller says, if it is lower$/)
    for (const trust of [["10.0.0.0/8"], () => true]) {
      expect(lineOf("priority", { priority: { trust } })).toContain("what the caller says, if it is lower or trusted")
    }
  })
})
