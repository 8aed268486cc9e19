/**
 * A bridge for programs whose schemas still come from `@effect/schema` 0.75. That package moved into `effect/Schema`
 * with Effect 3.10; its schemas run, but do not fit where a schema of today is asked for.
 *
 * @since 0.1.0
 */
import * as LegacyJsonSchema from "@effect/schema/JSONSchema"
import * as LegacyParseResult from "@effect/schema/ParseResult"
import type * as Legacy from "@effect/schema/Schema"
import * as LegacyTreeFormatter from "@effect/schema/TreeFormatter"
import * as Effect from "effect/Effect"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"

/**
 * A schema of `@effect/schema` as one of `effect/Schema`: what it decodes, encodes and needs stays the same. What it says
 * of a bad value becomes the message of one issue; its JSON schema, where it has one, is kept.
 *
 * @example
 * import * as Old from "@effect/schema/Schema"
 * import { fromLegacy } from "@effect-resilience/core/LegacySchema"
 * import { Schema } from "effect"
 *
 * const User = Schema.Struct({ id: fromLegacy(Old.NumberFromString) })
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromLegacy = <A, I, R>(legacy: Legacy.Schema<A, I, R>): Schema.Schema<A, I, R> => {
  const title = String(legacy.ast)
  const isType = LegacyParseResult.is(legacy)
  // What the old schema takes is for its own decoding to say.
  const encoded = Schema.declare((_: unknown): _ is I => true, {
    title: `${title} (encoded)`,
    ...jsonSchemaOf(legacy)
  })
  return Schema.transformOrFail(encoded, Schema.declare((input): input is A => isType(input), { title }), {
    strict: true,
    decode: (input, options, ast) =>
      Effect.mapError(
        LegacyParseResult.decodeUnknown(legacy)(input, options),
        (issue) => new ParseResult.Type(ast, input, messageOf(issue))
      ),
    encode: (value, options, ast) =>
      Effect.mapError(
        LegacyParseResult.encodeUnknown(legacy)(value, options),
        (issue) => new ParseResult.Type(ast, value, messageOf(issue))
      )
  })
}

const messageOf = (issue: LegacyParseResult.ParseIssue): string =>
  Effect.runSync(LegacyTreeFormatter.formatIssue(issue))

/** The old schema's JSON schema, where it can tell one. */
const jsonSchemaOf = <A, I, R>(legacy: Legacy.Schema<A, I, R>): { readonly jsonSchema?: object } => {
  try {
    const { $schema: _, ...jsonSchema } = LegacyJsonSchema.make(legacy)
    return { jsonSchema }
  } catch {
    return {}
  }
}
