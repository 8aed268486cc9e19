/**
 * For packages that add patterns or places for them: how options are read, and how an instance is opened and registered.
 * Programs do not need it, and it may change with any minor version before 1.0.
 *
 * @since 0.1.0
 */
export { consumeAtOnce, enterAtOnce } from "./internal/atOnce.js"
export type { EnterAtOnce } from "./internal/atOnce.js"
export { Enforced } from "./internal/enforced.js"
export { assemble, errorFields, ErrorTypeId, retryAfter, stackless } from "./internal/errors.js"
export { failureLine } from "./internal/failureLine.js"
export { hold } from "./internal/guard.js"
export type { Handlers } from "./internal/guard.js"
export { callSite, openInstance, register } from "./internal/instance.js"
export { openKeyed } from "./internal/keyed.js"
export { Lending, notBegun } from "./internal/lending.js"
export type { Borrower, Lender, Terms } from "./internal/lending.js"
export * as metric from "./internal/metrics.js"
export { onceAMinute, trouble } from "./internal/onceAMinute.js"
export type { Trouble } from "./internal/onceAMinute.js"
export { optionChecks } from "./internal/optionChecks.js"
export * as option from "./internal/options.js"
export { optionTables } from "./internal/optionTables.js"
export { publish } from "./internal/publish.js"
export { layerFromConfig, makeTag, orDie } from "./internal/tag.js"
export { fromNanos, now, nowMillis, toNanos } from "./internal/time.js"
export { toWire } from "./internal/wire.js"
export type { Json } from "./internal/wire.js"
