import * as Predicate from "effect/Predicate"

/** Whether it can be the name of a header field (RFC 9110, section 5.1). @internal */
export const isFieldName = (input: unknown): input is string =>
  Predicate.isString(input) && /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(input)

/** Whether it can be the value of one: nothing that ends it, or that servers refuse. @internal */
export const isFieldValue = (input: unknown): input is string =>
  Predicate.isString(input) && /^[\t\x20-\x7e\x80-\xff]*$/.test(input)
