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

/** The path of a request, without its query. @internal */
export const pathOf = ({ url }: { readonly url: string }): string =>
  url.replace(/^https?:\/\/[^/]*/, "").replace(/[?#].*$/, "") || "/"
