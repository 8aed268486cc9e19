import * as Effect from "effect/Effect"
import * as Encoding from "effect/Encoding"

/** What is used of the globals that Node and the web share. */
interface Globals {
  readonly crypto: {
    readonly subtle: { readonly digest: (algorithm: "SHA-256", data: Uint8Array) => Promise<ArrayBuffer> }
    readonly randomUUID: () => string
  }
  readonly TextEncoder: new() => { readonly encode: (text: string) => Uint8Array }
  readonly TextDecoder: new() => { readonly decode: (bytes: Uint8Array) => string }
}
const { TextDecoder, TextEncoder, crypto } = globalThis as unknown as Globals
const encoder = new TextEncoder()

/** SHA-256 of the parts, each told from the next by its length, in hexadecimal. @internal */
export const digest = (...parts: ReadonlyArray<string | Uint8Array>): Effect.Effect<string> =>
  Effect.map(
    Effect.promise(() => crypto.subtle.digest("SHA-256", joined(parts))),
    (bytes) => Encoding.encodeHex(new Uint8Array(bytes))
  )

const joined = (parts: ReadonlyArray<string | Uint8Array>): Uint8Array => {
  const chunks = parts.flatMap((part) => {
    const bytes = typeof part === "string" ? encoder.encode(part) : part
    return [encoder.encode(`${bytes.byteLength}:`), bytes]
  })
  const out = new Uint8Array(chunks.reduce((size, { byteLength }) => size + byteLength, 0))
  let at = 0
  for (const chunk of chunks) {
    out.set(chunk, at)
    at += chunk.byteLength
  }
  return out
}

/** A name that nobody else has. @internal */
export const unique = (): string => crypto.randomUUID()

/** @internal */
export const decodeText = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
