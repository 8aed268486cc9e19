/*
 * What is used of the web's globals. The library is compiled without the types of a browser or of Node, so that neither is
 * needed to use it.
 */

/** @internal */
export interface WebHeaders {
  forEach(each: (value: string, name: string) => void): void
}

/** @internal */
export interface WebResponse {
  readonly status: number
  readonly statusText: string
  readonly headers: WebHeaders
  readonly url: string
  readonly redirected: boolean
  readonly type: string
  readonly body: unknown
  formData(): Promise<unknown>
}

/** @internal */
export interface WebSignal {
  readonly aborted: boolean
  readonly reason: unknown
  addEventListener(type: "abort", listener: () => void, options?: { readonly once: boolean }): void
  removeEventListener(type: "abort", listener: () => void): void
}

/** @internal */
export interface WebRequest {
  readonly url: string
  readonly method: string
  readonly headers: WebHeaders
  readonly body: unknown
  readonly redirect: "follow" | "error" | "manual"
  readonly signal: WebSignal
}

/** The globals. @internal */
export const web = globalThis as unknown as {
  readonly TextDecoder: new() => { decode(bytes: Uint8Array): string }
  readonly URLSearchParams: new(text: string) => Iterable<readonly [string, string]>
  readonly Headers: new(init?: unknown) => WebHeaders
  readonly Request: new(input: unknown, init?: unknown) => WebRequest
  readonly ReadableStream: new(
    source: {
      readonly pull: (
        controller: { enqueue(chunk: Uint8Array): void; close(): void }
      ) => Promise<void>
      readonly cancel: () => unknown
    },
    strategy: { readonly highWaterMark: number }
  ) => unknown
  readonly Response: new(body: unknown, init?: unknown) => WebResponse
  readonly AbortController: new() => { readonly signal: WebSignal; abort(reason?: unknown): void }
  readonly DOMException: new(message: string, name: string) => Error
  readonly crypto: { randomUUID(): string }
}
