type Headers = Readonly<Record<string, string | undefined>>

/** Milliseconds in the units of `grpc-timeout`. */
const grpcUnits: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }

const grpc = (text: string): number | undefined => {
  const match = /^(\d{1,8})([HMSmun])$/.exec(text)
  return match === null ? undefined : Number(match[1]) * (grpcUnits[match[2] ?? ""] ?? NaN)
}

const milliseconds = (text: string): number | undefined => /^\d{1,12}$/.test(text) ? Number(text) : undefined

/** How the value of a header is read. */
const readers: Record<string, (text: string) => number | undefined> = { "grpc-timeout": grpc }

/** The headers by which callers say how long they wait: gRPC's, Envoy's, Connect's, and our own. @internal */
export const timeoutHeaders = [
  "grpc-timeout",
  "x-envoy-expected-rq-timeout-ms",
  "connect-timeout-ms",
  "x-request-timeout-ms"
] as const

/**
 * How long the caller waits, in milliseconds: the least of what these headers say; `undefined` where they say nothing. A
 * header that came twice counts with its last value; one that cannot be read says nothing, and so does `0` from Envoy,
 * which there means no limit.
 *
 * @internal
 */
export const callerTimeout = (headers: Headers, names: ReadonlyArray<string>): number | undefined => {
  let least: number | undefined
  for (const name of names) {
    const text = headers[name]
    if (text === undefined) continue
    const limit = (readers[name] ?? milliseconds)(text.split(",").at(-1)?.trim() ?? "")
    if (limit === undefined || (limit === 0 && name.startsWith("x-envoy-"))) continue
    least = least === undefined ? limit : Math.min(least, limit)
  }
  return least
}
