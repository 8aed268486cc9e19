import { option } from "@effect-resilience/core/extension"
import * as Predicate from "effect/Predicate"

/** Stands for any number of items, none included. */
const many = Symbol("many")

type Wanted<A> = typeof many | ((item: A) => boolean)

/** Whether these are all the items, in order. Of several `many` only the last is tried anew: more would not find more. */
const matches = <A>(wanted: ReadonlyArray<Wanted<A>>, items: ArrayLike<A>): boolean => {
  let at = 0
  let i = 0
  let last: { readonly at: number; i: number } | undefined
  while (i < items.length) {
    const one = wanted[at]
    if (one === many) {
      last = { at: ++at, i }
    } else if (one?.(items[i] as A) === true) {
      at++
      i++
    } else if (last === undefined) {
      return false
    } else {
      at = last.at
      i = ++last.i
    }
  }
  return wanted.slice(at).every((one) => one === many)
}

/** A segment of a pattern: `*` alone is no empty one. */
const segmentOf = (pattern: string): Wanted<string> => {
  if (pattern === "**") return many
  if (pattern === "*") return (segment) => segment !== ""
  if (!pattern.includes("*")) return (segment) => segment === pattern
  const wanted = [...pattern].map((one): Wanted<string> => one === "*" ? many : (char) => char === one)
  return (segment) => matches(wanted, [...segment])
}

const matcherOf = (pattern: string): (path: string) => boolean => {
  const parts = pattern.replace(/^\//, "").split("/")
  const wanted = parts.map(segmentOf)
  const literal = parts.findIndex((part) => part.includes("*"))
  const start = `/${(literal < 0 ? parts : parts.slice(0, literal)).join("/")}`
  return (path) => {
    // Most paths are others from here on.
    if (!path.startsWith(start)) return false
    const segments = path.slice(1).split("/")
    return matches(wanted, segments) || (segments.at(-1) === "" && matches(wanted, segments.slice(0, -1)))
  }
}

/**
 * Patterns for paths: `*` is a segment or a part of one, `**` any number of whole ones, none included; all else stands for
 * itself. A slash at the end of a path says nothing. It takes as long as a path, whatever a client makes of that.
 *
 * @internal
 */
export const pathMatcher = (patterns: ReadonlyArray<string>): (path: string) => boolean => {
  const matchers = patterns.map(matcherOf)
  return (path) => matchers.some((is) => is(path))
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
