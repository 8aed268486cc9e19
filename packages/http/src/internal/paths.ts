/**
 * A pattern for paths: `*` stands for one segment, `**` at the end for any number, none included; all else for itself.
 *
 * @internal
 */
export const pathMatcher = (patterns: ReadonlyArray<string>): (path: string) => boolean => {
  const expressions = patterns.map((pattern) => {
    const source = pattern
      .replace(/[.+?^${}()|[\]\\]/g, "\\$&")
      .replace(/\/\*\*$/, "(?:/.*)?")
      .replace(/(?<!\.)\*+/g, "[^/]*")
    return new RegExp(`^${source}/?$`)
  })
  return (path) => expressions.some((expression) => expression.test(path))
}

/** Those by which a service is watched. @internal */
export const healthPaths: ReadonlyArray<string> = [
  "/health",
  "/health/**",
  "/healthz",
  "/livez",
  "/live",
  "/ready",
  "/readyz",
  "/metrics"
]

/** Path and query as the client sent them, wherever a router is mounted. @internal */
export const targetOf = ({ originalUrl }: { readonly originalUrl: string }): string =>
  originalUrl.replace(/^https?:\/\/[^/]*/, "")

/** The path as the client sent it, without its query. @internal */
export const pathOf = (request: { readonly originalUrl: string }): string =>
  targetOf(request).replace(/[?#].*$/, "") || "/"
