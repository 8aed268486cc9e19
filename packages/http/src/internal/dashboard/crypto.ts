import * as Encoding from "effect/Encoding"

/** What every runtime has, and the library of types that is used here does not. */
const { crypto, TextEncoder } = globalThis as unknown as {
  readonly crypto: { readonly getRandomValues: (bytes: Uint8Array) => Uint8Array }
  readonly TextEncoder: new() => { readonly encode: (text: string) => Uint8Array }
}

/** Text that nobody guesses. @internal */
export const secret = (bytes = 16): string => Encoding.encodeBase64Url(crypto.getRandomValues(new Uint8Array(bytes)))

/**
 * Whether two texts are the same, in a time that does not depend on where they differ.
 *
 * @internal
 */
export const sameText = (expected: string, given: string): boolean => {
  const encoder = new TextEncoder()
  const one = encoder.encode(expected)
  const other = encoder.encode(given)
  let difference = one.length ^ other.length
  for (let i = 0; i < one.length; i++) difference |= (one[i] ?? 0) ^ (other[i] ?? 0)
  return difference === 0
}
