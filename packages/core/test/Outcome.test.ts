import { classifyWith } from "@effect-resilience/core"
import { describe, expect, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"

class NotFound {
  readonly _tag = "NotFound"
}
class Down {
  readonly _tag = "Down"
}

describe("classifyWith", () => {
  it.effect("reads the tags of a failure of concurrent work", () =>
    Effect.gen(function*() {
      const together = <E>(error: E) =>
        Effect.exit(Effect.all([Effect.fail(error), Effect.never], { concurrency: "unbounded" }))
      const ignoring = classifyWith({ ignoreTags: ["NotFound"] })
      expect(ignoring(yield* together(new NotFound()))).toBe("ignored")
      expect(ignoring(yield* together(new Down()))).toBe("failure")
      expect(classifyWith({ successTags: ["NotFound"] })(yield* together(new NotFound()))).toBe("success")
      const naming = classifyWith({ failureTags: ["Down"] })
      expect([naming(yield* together(new NotFound())), naming(yield* together(new Down()))])
        .toEqual(["ignored", "failure"])
    }))

  it("one failure among several errors is a failure, and so is a defect beside them", () => {
    const classify = classifyWith({ ignoreTags: ["NotFound"], successTags: ["Known"] })
    const notFound = Cause.fail(new NotFound())
    const known = Cause.fail({ _tag: "Known" })
    const of = (cause: Cause.Cause<unknown>) => classify(Exit.failCause(cause))
    expect(of(Cause.parallel(notFound, Cause.fail(new Down())))).toBe("failure")
    expect(of(Cause.parallel(notFound, known))).toBe("success")
    expect(of(Cause.parallel(notFound, notFound))).toBe("ignored")
    expect(of(Cause.sequential(notFound, Cause.die("bug")))).toBe("failure")
  })

  it("an error without a tag is none of those that failureTags names", () => {
    expect(classifyWith({ failureTags: ["Down"] })(Exit.fail("no"))).toBe("ignored")
    expect(classifyWith({ ignoreTags: ["Down"] })(Exit.fail("no"))).toBe("failure")
  })
})
