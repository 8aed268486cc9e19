import type * as Option from "effect/Option"

/** What a decision about a request is made from; no more than this, whatever server the request came to. @internal */
export interface RequestInfo {
  readonly method: string
  /** The path without query, as it came. */
  readonly path: string
  /** Names in lower case; lines of one name joined by `", "`. */
  readonly headers: Readonly<Record<string, string | undefined>>
  /** The address of the peer of the socket, where the server knows it. */
  readonly remoteAddress: Option.Option<string>
}
