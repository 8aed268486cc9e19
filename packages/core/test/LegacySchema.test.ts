import { fromLegacy } from "@effect-resilience/core/LegacySchema"
import * as Old from "@effect/schema/Schema"
import { expect, it } from "@effect/vitest"
import { Context, Effect, Exit, JSONSchema, Schema } from "effect"

const Amount = Old.Struct({ cents: Old.NumberFromString, note: Old.optional(Old.String) })

it.effect("decodes and encodes as the old schema does", () =>
  Effect.gen(function*() {
    const amount = fromLegacy(Amount)
    expect(yield* Schema.decodeUnknown(amount)({ cents: "42" })).toEqual({ cents: 42 })
    expect(yield* Schema.encode(amount)({ cents: 42, note: "tip" })).toEqual({ cents: "42", note: "tip" })
  }))

it.effect("fits into a schema of today", () =>
  Effect.gen(function*() {
    const Order = Schema.Struct({
      id: Schema.String,
      total: fromLegacy(Amount),
      more: Schema.Array(fromLegacy(Amount))
    })
    const order = yield* Schema.decodeUnknown(Order)({ id: "1", total: { cents: "1" }, more: [{ cents: "2" }] })
    expect(order).toEqual({ id: "1", total: { cents: 1 }, more: [{ cents: 2 }] })
    expect(yield* Schema.encode(Order)(order)).toEqual({ id: "1", total: { cents: "1" }, more: [{ cents: "2" }] })
  }))

it.effect("says what the old schema says of a bad value", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Schema.decodeUnknown(fromLegacy(Amount))({ cents: "a lot" }))
    expect(error.message).toContain("cents")
    expect(error.message).toContain("a lot")
    expect(Exit.isFailure(yield* Effect.exit(Schema.encodeUnknown(fromLegacy(Amount))({ cents: "42" })))).toBe(true)
  }))

it.effect("keeps what an effectful schema needs", () =>
  Effect.gen(function*() {
    class Suffix extends Context.Tag("Suffix")<Suffix, string>() {}
    const Suffixed = Old.transformOrFail(Old.String, Old.String, {
      strict: true,
      decode: (s) =>
        Effect.zipRight(Effect.promise(() => Promise.resolve()), Effect.map(Suffix, (suffix) => s + suffix)),
      encode: (s) => Effect.succeed(s)
    })
    const decoded = Schema.decodeUnknown(fromLegacy(Suffixed))("a").pipe(Effect.provideService(Suffix, "b"))
    expect(yield* decoded).toBe("ab")
  }))

it("keeps the JSON schema", () => {
  expect(JSONSchema.make(fromLegacy(Old.Struct({ name: Old.String.pipe(Old.minLength(2)) })))).toMatchObject({
    properties: { name: { type: "string", minLength: 2 } }
  })
})

it("guards the type side", () => {
  expect(Schema.is(fromLegacy(Amount))({ cents: 1 })).toBe(true)
  expect(Schema.is(fromLegacy(Amount))({ cents: "1" })).toBe(false)
})
