declare module "autocannon" {
  interface Options {
    readonly url: string
    readonly connections: number
    /** Requests, all in all. */
    readonly amount: number
    /** Seconds until a client gives up and connects anew. */
    readonly timeout?: number
    /** Requests after which a connection is closed. */
    readonly reconnectRate?: number
    readonly requests?: ReadonlyArray<{ readonly method?: string; readonly path: string; readonly body?: string }>
  }
  interface Result {
    readonly statusCodeStats: Readonly<Record<string, { readonly count: number }>>
    readonly timeouts: number
    readonly errors: number
  }
  export default function autocannon(options: Options): Promise<Result>
}
