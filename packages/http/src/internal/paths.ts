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
  const one = new RegExp(expressions.map(({ source }) => source).join("|"))
  return expressions.length === 0 ? () => false : (path) => one.test(path)
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
  // Most have nothing to take off.
  originalUrl.startsWith("/") ? originalUrl : originalUrl.replace(/^https?:\/\/[^/]*/, "")

/** The path as the client sent it, without its query. @internal */
export const pathOf = (request: { readonly originalUrl: string }): string => {
  const target = targetOf(request)
  const end = target.search(/[?#]/)
  return (end < 0 ? target : target.slice(0, end)) || "/"
}
