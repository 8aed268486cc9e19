import { option } from "@effect-resilience/core/extension"
import * as Predicate from "effect/Predicate"

/** A segment of a pattern, as an expression. */
const segmentOf = (segment: string): string => {
  if (segment === "**") return "(?:/[^/]*)*"
  if (segment === "*") return "/[^/]+"
  return `/${segment.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*+/g, "[^/]*")}`
}

/**
 * Patterns for paths: `*` is a segment or a part of one, `**` any number of whole ones, none included; all else stands for
 * itself. A slash at the end of a path says nothing.
 *
 * @internal
 */
export const pathMatcher = (patterns: ReadonlyArray<string>): (path: string) => boolean => {
  const expressions = patterns.map((pattern) => {
    const segments = pattern.replace(/^\//, "").split("/")
    return new RegExp(`^${segments.map(segmentOf).join("")}/?$`)
  })
  const one = new RegExp(expressions.map(({ source }) => source).join("|"))
  return expressions.length === 0 ? () => false : (path) => one.test(path)
}

const isPattern = (input: unknown): boolean => Predicate.isString(input) && (input.startsWith("/") || input === "**")

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

/** The paths that something does not apply to: those by which a service is watched, where nothing else is said. @internal */
export const excludeField = (shown: string) =>
  option.field<ReadonlyArray<string>, ReadonlyArray<string>>(healthPaths, (input) => {
    if (Array.isArray(input) && input.every(isPattern)) return input
    throw new option.Requirement("a list of paths, each from / on, or **")
  }, shown)
